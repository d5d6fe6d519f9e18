"""Between the messages of the wire and the engine's own types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import (
    MAX_CONDITIONS,
    MAX_EVENTS,
    MAX_LIMIT,
    MAX_REQUESTS,
    PLAIN,
    AllOf,
    AnyOf,
    Basis,
    CategoryCap,
    EventTable,
    InvalidFieldError,
    LaterEvents,
    NoneOf,
    NumberRange,
    Options,
    Query,
    TimeRange,
)
from kinrec.engine.sources import (
    FACTORS,
    HISTORY,
    POPULARITY,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
)
from kinrec.server.event_columns import join_events
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Sized
    from typing import Protocol

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from google.protobuf.timestamp_pb2 import Timestamp

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine import (
        Condition,
        Encoding,
        EventReport,
        Ranking,
        Reason,
        Recommendations,
        SimilarItems,
        SimilarUsers,
    )
    from kinrec.server.errors import Failure
    from kinrec.server.pages import Page

    class EventMessages(Iterable[pb.Event], Sized, Protocol):
        """A repeated field of events."""

    class ConditionMessages(Iterable[pb.Condition], Sized, Protocol):
        """A repeated field of conditions."""

    RequestWithEvents = (
        pb.EncodeSequenceRequest
        | pb.SimilarUsersRequest
        | pb.RecommendRequest
        | pb.RankRequest
        | pb.EventList
    )
    RecommendationMessages = RepeatedCompositeFieldContainer[pb.Recommendation]


DEFAULT_LIMIT = 10
_WORTH_JOINING = 8  # events; fewer are looked at one by one

_Entry = TypeVar("_Entry")
_Default = TypeVar("_Default")

# google.protobuf.Timestamp: the years 1 to 9999, nanoseconds always counted forward.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_MAX_NANOS = 999_999_999

_BASIS = {Basis.PERSONAL: pb.BASIS_PERSONAL, Basis.POPULAR: pb.BASIS_POPULAR}
_SOURCES = {
    SEQUENCE: pb.SOURCE_SEQUENCE,
    SIMILAR_USERS: pb.SOURCE_SIMILAR_USERS,
    FACTORS: pb.SOURCE_FACTORS,
    TRANSITIONS: pb.SOURCE_TRANSITIONS,
    HISTORY: pb.SOURCE_HISTORY,
    POPULARITY: pb.SOURCE_POPULARITY,
}
_KINDS = {
    manifest_pb2.Attribute.KIND_TEXT: pb.Attribute.KIND_TEXT,
    manifest_pb2.Attribute.KIND_NUMBER: pb.Attribute.KIND_NUMBER,
    manifest_pb2.Attribute.KIND_TIME: pb.Attribute.KIND_TIME,
}


@dataclass(frozen=True, slots=True)
class ReasonPolicy:
    """What may be said of other people in a reason.

    Attributes:
        min_voters: How many must have voted for them to be told of; 0 to tell of none.
        pseudonym: From a user's id to a name that does not give it away.
    """

    min_voters: int
    pseudonym: Callable[[str], str]

    def tells_of(self, voters: int) -> bool:
        """Whether so many voters are told of."""
        return 0 < self.min_voters <= voters


def events_from_proto(request: RequestWithEvents) -> LaterEvents:
    """Give the events of a request, which are converted when the engine looks at them.

    Raises:
        InvalidFieldError: There are too many events; later also if a time is out of range.
    """
    count = len(request.events)
    if count > MAX_EVENTS:  # refused here so that a flood is not converted first
        raise InvalidFieldError("events", f"at most {MAX_EVENTS} are allowed, got {count}")
    return LaterEvents(count, partial(_table_from_proto, request))


def _table_from_proto(request: RequestWithEvents) -> EventTable:
    rows = request.events
    count = len(rows)
    if count < _WORTH_JOINING:
        return EventTable(_item_ids(rows), _event_types(rows), _times(rows), _values(rows))
    joined = join_events(request)
    return EventTable(
        _whole(joined.item_id, count, "") or _item_ids(rows),
        _whole(joined.event_type, count, "") or _event_types(rows),
        _joined_times(joined, count) or _times(rows),
        _whole(joined.value, count, None) or _values(rows),
    )


def _whole(column: Sequence[_Entry], count: int, absent: _Default) -> Sequence[_Entry | _Default]:
    """Give a column of so many entries; an empty one if some events have one there and some have not."""
    if len(column) == count:
        return column[:]
    return [] if len(column) else [absent] * count


def _joined_times(joined: Any, count: int) -> Sequence[float | None]:  # noqa: ANN401 - see join_events
    """Give the times likewise; an empty list also if one may be out of range."""
    if not joined.HasField("time"):
        return [None] * count
    seconds = joined.time.seconds[:]
    nanos = _whole(joined.time.nanos, count, 0)
    if not (
        len(seconds) == len(nanos) == count
        and min(seconds) >= _MIN_SECONDS
        and max(seconds) <= _MAX_SECONDS
        and min(nanos) >= 0
        and max(nanos) <= _MAX_NANOS
    ):
        return []
    if not any(nanos):
        return seconds  # type: ignore[no-any-return]
    return [second + nano * 1e-9 for second, nano in zip(seconds, nanos, strict=True)]


def _item_ids(rows: EventMessages) -> list[str]:
    return [row.item_id for row in rows]


def _event_types(rows: EventMessages) -> list[str]:
    return [row.event_type for row in rows]


def _values(rows: EventMessages) -> list[float | None]:
    return [row.value if row.HasField("value") else None for row in rows]


def _times(rows: EventMessages) -> list[float | None]:
    return [
        _seconds(row.time, f"events[{place}].time") if row.HasField("time") else None
        for place, row in enumerate(rows)
    ]


def limit_from_proto(limit: int) -> int:
    """The number of results asked for; zero asks for the default."""
    return limit or DEFAULT_LIMIT


def query_from_proto(request: pb.RecommendRequest, state: bytes, page: Page) -> Query:
    """Convert a request for recommendations.

    Args:
        request: The request.
        state: What its state holds.
        page: Where its page begins.

    Raises:
        InvalidFieldError: A field breaks its rule.
    """
    return Query(
        request.user_id,
        events_from_proto(request),
        state,
        _limit_of_page(limit_from_proto(request.limit), page),
        request.include_seen if request.HasField("include_seen") else None,
        request.exclude_item_ids,
        _options_from_proto(request, page),
    )


def _limit_of_page(limit: int, page: Page) -> int:
    """The last page ends where all pages end."""
    return min(limit, MAX_LIMIT - page.skip) if page.skip else limit


def _options_from_proto(request: pb.RecommendRequest, page: Page) -> Options:
    if not (
        request.allow_item_ids
        or request.conditions
        or request.min_score
        or request.diversity
        or request.HasField("category_cap")
        or request.reasons
        or request.search_effort
        or request.exact
        or page.depth
    ):
        return PLAIN  # which most calls ask for
    cap = None
    if request.HasField("category_cap"):
        cap = CategoryCap(request.category_cap.attribute, request.category_cap.limit)
    return Options(
        allow_item_ids=tuple(request.allow_item_ids),
        conditions=conditions_from_proto(request.conditions),
        min_score=request.min_score,
        diversity=request.diversity,
        category_cap=cap,
        reasons=request.reasons,
        search_effort=request.search_effort or 1,
        exact=request.exact,
        skip=page.skip,
        depth=page.depth,
    )


def conditions_from_proto(messages: ConditionMessages) -> tuple[Condition, ...]:
    """Convert the conditions of a request.

    Raises:
        InvalidFieldError: There are too many, or one has no rule or a time out of range.
    """
    if len(messages) > MAX_CONDITIONS:
        raise InvalidFieldError(
            "conditions", f"at most {MAX_CONDITIONS} are allowed, got {len(messages)}"
        )
    return tuple(
        _condition_from_proto(message, f"conditions[{place}]")
        for place, message in enumerate(messages)
    )


def _condition_from_proto(message: pb.Condition, field: str) -> Condition:
    name = message.attribute
    match message.WhichOneof("rule"):
        case "any_of":
            return AnyOf(name, tuple(message.any_of.values))
        case "all_of":
            return AllOf(name, tuple(message.all_of.values))
        case "none_of":
            return NoneOf(name, tuple(message.none_of.values))
        case "number_range":
            numbers = message.number_range
            return NumberRange(
                name,
                numbers.min if numbers.HasField("min") else None,
                numbers.max if numbers.HasField("max") else None,
            )
        case "time_range":
            times = message.time_range
            return TimeRange(
                name,
                _seconds(times.start, f"{field}.time_range.start")
                if times.HasField("start")
                else None,
                _seconds(times.end, f"{field}.time_range.end") if times.HasField("end") else None,
            )
        case _:
            raise InvalidFieldError(field, "must have a rule, e.g. any_of")


def _seconds(stamp: Timestamp, field: str) -> float:
    seconds, nanos = stamp.seconds, stamp.nanos
    if not (_MIN_SECONDS <= seconds <= _MAX_SECONDS and 0 <= nanos <= _MAX_NANOS):
        raise InvalidFieldError(field, "must lie in the years 1 to 9999")
    return seconds + nanos * 1e-9


def encoding_to_proto(encoding: Encoding) -> pb.EncodeSequenceResponse:
    """Convert an encoding."""
    return pb.EncodeSequenceResponse(
        vector=encoding.vector.tolist(),
        event_report=_report_to_proto(encoding.event_report),
        known_user=encoding.known_user,
    )


def similar_users_to_proto(similar: SimilarUsers) -> pb.SimilarUsersResponse:
    """Convert similar users."""
    response = pb.SimilarUsersResponse(
        event_report=_report_to_proto(similar.event_report),
        known_user=similar.known_user,
    )
    add = response.similar_users.add
    shared = similar.shared_item_ids or [[]] * len(similar.user_ids)
    for user_id, similarity, items in zip(
        similar.user_ids, similar.similarities, shared, strict=True
    ):
        add(user_id=user_id, similarity=similarity, shared_item_ids=items)
    return response


def recommendations_to_proto(answer: Recommendations, policy: ReasonPolicy) -> pb.RecommendResponse:
    """Convert recommendations."""
    response = pb.RecommendResponse(
        event_report=_report_to_proto(answer.event_report),
        known_user=answer.known_user,
        basis=_BASIS[answer.basis],
        allowed_item_count=answer.allowed,
    )
    _add_recommendations(response.recommendations, answer, policy)
    return response


def ranking_to_proto(ranking: Ranking, policy: ReasonPolicy) -> pb.RankResponse:
    """Convert a ranking."""
    answer = ranking.recommendations
    response = pb.RankResponse(
        unknown_item_ids=ranking.unknown_item_ids,
        event_report=_report_to_proto(answer.event_report),
        known_user=answer.known_user,
        basis=_BASIS[answer.basis],
    )
    _add_recommendations(response.recommendations, answer, policy)
    return response


def _add_recommendations(
    messages: RecommendationMessages, answer: Recommendations, policy: ReasonPolicy
) -> None:
    add = messages.add
    for item_id, score, title in zip(answer.item_ids, answer.scores, answer.titles, strict=True):
        add(item_id=item_id, score=score, title=title)
    for message, reason in zip(messages, answer.reasons, strict=False):
        message.reason.CopyFrom(_reason_to_proto(reason, policy))


def _reason_to_proto(reason: Reason, policy: ReasonPolicy) -> pb.Reason:
    shares = sorted(reason.sources.items(), key=lambda pair: -pair[1])
    message = pb.Reason(
        sources=[pb.SourceShare(source=_SOURCES[name], share=share) for name, share in shares],
        own_items=[pb.OwnItem(item_id=item_id, share=share) for item_id, share in reason.events],
    )
    if policy.tells_of(reason.voters):
        message.voter_count = reason.voters
        message.voters.extend(
            # Rounded: exact, it would say which of the users that SimilarUsers names it is.
            pb.Voter(pseudonym=policy.pseudonym(user_id), similarity=round(similarity, 1))
            for user_id, similarity in reason.neighbours
        )
    return message


def failure_to_proto(failure: Failure) -> pb.Failure:
    """Convert the failure of one of many requests."""
    return pb.Failure(
        code=failure.code.value[0],
        reason=pb.ErrorReason.Value(f"ERROR_REASON_{failure.reason}"),
        message=failure.message,
        field=failure.field,
    )


def similar_items_to_proto(similar: SimilarItems) -> pb.SimilarItemsResponse:
    """Convert similar items."""
    response = pb.SimilarItemsResponse(allowed_item_count=similar.allowed)
    add = response.similar_items.add
    for item_id, similarity, title in zip(
        similar.item_ids, similar.similarities, similar.titles, strict=True
    ):
        add(item_id=item_id, similarity=similarity, title=title)
    return response


def model_to_proto(manifest: Manifest, *, max_state_bytes: int) -> pb.GetModelResponse:
    """Describe the model of a manifest."""
    return pb.GetModelResponse(
        name=manifest.name,
        version=manifest.version,
        create_time=manifest.create_time,
        encoder=manifest.encoder.kind,
        vector_size=manifest.encoder.vector_size,
        user_count=manifest.user_count,
        item_count=manifest.item_count,
        event_types=[event_type.name for event_type in manifest.event_spec.event_types],
        max_events=MAX_EVENTS,
        max_limit=MAX_LIMIT,
        include_seen_default=manifest.event_spec.include_seen_default,
        carries_state=manifest.encoder.carries_state,
        max_state_bytes=max_state_bytes,
        attributes=[
            pb.Attribute(name=one.name, kind=_KINDS[one.kind]) for one in manifest.attributes
        ],
        max_requests=MAX_REQUESTS,
    )


def _report_to_proto(report: EventReport) -> pb.EventReport:
    received, used, unknown_item, repeated, truncated, unknown_event_type, late, dropped = report
    return pb.EventReport(
        received=received,
        used=used,
        unknown_item=unknown_item,
        repeated=repeated,
        truncated=truncated,
        unknown_event_type=unknown_event_type,
        late=late,
        dropped=dropped,
    )
