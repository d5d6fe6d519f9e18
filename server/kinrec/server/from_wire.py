"""From the messages of the wire to the engine's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.engine import (
    MAX_CONDITIONS,
    MAX_EVENTS,
    MAX_LIMIT,
    PLAIN,
    AllOf,
    AnyOf,
    CategoryCap,
    EventTable,
    InvalidFieldError,
    NoneOf,
    NumberRange,
    Options,
    Query,
    TimeRange,
)
from kinrec.server.event_columns import join_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Sized
    from typing import Protocol

    from google.protobuf.timestamp_pb2 import Timestamp

    from kinrec.engine import (
        Condition,
    )
    from kinrec.server.pages import Page
    from kinrec.v1 import recommender_pb2 as pb

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


DEFAULT_LIMIT = 10
_WORTH_JOINING = 8  # events; fewer are looked at one by one

_Entry = TypeVar("_Entry")
_Default = TypeVar("_Default")

# google.protobuf.Timestamp: the years 1 to 9999, nanoseconds always counted forward.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_MAX_NANOS = 999_999_999


def events_from_proto(request: RequestWithEvents) -> EventTable:
    """Convert the events of a request.

    Raises:
        InvalidFieldError: There are too many events, or a time is out of range.
    """
    count = len(request.events)
    if count > MAX_EVENTS:  # refused here so that a flood is not converted first
        raise InvalidFieldError("events", f"at most {MAX_EVENTS} are allowed, got {count}")
    if count >= _WORTH_JOINING:
        joined = join_events(request)
        item_ids = _whole(joined.item_id, count, "")
        types = _whole(joined.event_type, count, "")
        times = _joined_times(joined, count)
        values = _whole(joined.value, count, None)
        if item_ids and types and times and values:
            return EventTable(item_ids, types, times, values)
    return _table_one_by_one(request.events)


def _whole(column: Sequence[_Entry], count: int, absent: _Default) -> list[_Entry | _Default]:
    """Give a column of so many entries; an empty one if some events have one there and some have not."""
    if len(column) == count:
        return column[:]  # type: ignore[return-value] # a list, whatever the column is
    return [] if len(column) else [absent] * count


def _joined_times(joined: Any, count: int) -> list[float | None]:  # noqa: ANN401 - see join_events
    """Give the times likewise; an empty list also if one may be out of range."""
    if not joined.HasField("time"):
        return [None] * count
    seconds = _whole(joined.time.seconds, count, 0)
    if not (seconds and min(seconds) >= _MIN_SECONDS and max(seconds) <= _MAX_SECONDS):
        return []
    if not len(joined.time.nanos):
        # A time of no seconds and no nanoseconds has an entry nowhere.
        return seconds if len(joined.time.seconds) else []
    nanos = _whole(joined.time.nanos, count, 0)
    if not (nanos and min(nanos) >= 0 and max(nanos) <= _MAX_NANOS):
        return []
    return [second + nano * 1e-9 for second, nano in zip(seconds, nanos, strict=True)]


def _table_one_by_one(rows: EventMessages) -> EventTable:
    item_ids: list[str] = []
    types: list[str] = []
    times: list[float | None] = []
    values: list[float | None] = []
    for place, row in enumerate(rows):
        item_ids.append(row.item_id)
        types.append(row.event_type)
        has_time = row.HasField("time")
        times.append(_seconds(row.time, f"events[{place}].time") if has_time else None)
        values.append(row.value if row.HasField("value") else None)
    return EventTable(item_ids, types, times, values)


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
