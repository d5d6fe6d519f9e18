"""From Python values to request messages. Pure: nothing is sent here.

Only what a message cannot hold is refused here; the rules of the service, such as the most events
of a request, are the server's to apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinrec.client import _checks
from kinrec.client._errors import InvalidRequestError, invalid_field
from kinrec.client._options import (
    PLAIN,
    AllOf,
    AnyOf,
    CategoryCap,
    NoneOf,
    NumberRange,
    Options,
    Query,
    TimeRange,
)
from kinrec.client._types import Event
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kinrec.client._options import Condition

_MAX_LIMIT = 1_000
_MAX_SEARCH_EFFORT = 100
_MAX_SHARED_ITEMS = 100


def encode_sequence_request(
    events: Iterable[Event], *, user_id: str | None, state: bytes = b""
) -> pb.EncodeSequenceRequest:
    """A request to encode a person's behaviour."""
    return pb.EncodeSequenceRequest(
        user_id=_user_id(user_id), events=_events(events), state=_state(state)
    )


def similar_users_request(
    events: Iterable[Event],
    *,
    user_id: str | None,
    state: bytes = b"",
    limit: int | None,
    shared_items: int = 0,
    search_effort: int = 1,
    exact: bool = False,
) -> pb.SimilarUsersRequest:
    """A request for the users who behave alike."""
    return pb.SimilarUsersRequest(
        user_id=_user_id(user_id),
        events=_events(events),
        state=_state(state),
        limit=_limit(limit),
        shared_items=_checks.integer(shared_items, "shared_items", 0, _MAX_SHARED_ITEMS),
        search_effort=_search_effort(search_effort),
        exact=_checks.flag(exact, "exact"),
    )


def recommend_request(query: Query) -> pb.RecommendRequest:
    """A request for recommendations."""
    options, include_seen = query.options, query.include_seen
    if not isinstance(options, Options):
        raise invalid_field("options", f"must be Options, not {_checks.kind_of(options)}")
    request = pb.RecommendRequest(
        user_id=_user_id(query.user_id),
        events=_events(query.events),
        state=_state(query.state),
        limit=_limit(query.limit),
        include_seen=None if include_seen is None else _checks.flag(include_seen, "include_seen"),
        exclude_item_ids=_checks.texts(query.exclude_item_ids, "exclude_item_ids", "item ids"),
    )
    if options is not PLAIN:
        _add_options(request, options)
    return request


def rank_request(
    item_ids: Iterable[str],
    events: Iterable[Event],
    *,
    user_id: str | None,
    state: bytes,
    reasons: bool,
) -> pb.RankRequest:
    """A request to put items in order."""
    return pb.RankRequest(
        user_id=_user_id(user_id),
        events=_events(events),
        state=_state(state),
        item_ids=_checks.texts(item_ids, "item_ids", "item ids"),
        reasons=_checks.flag(reasons, "reasons"),
    )


def similar_items_request(
    item_id: str,
    *,
    limit: int | None,
    allow_item_ids: Iterable[str],
    conditions: Iterable[Condition],
) -> pb.SimilarItemsRequest:
    """A request for items like another."""
    return pb.SimilarItemsRequest(
        item_id=_checks.text(item_id, "item_id"),
        limit=_limit(limit),
        allow_item_ids=_checks.texts(allow_item_ids, "allow_item_ids", "item ids"),
        conditions=_conditions(conditions),
    )


def stream_start(query: Query) -> pb.RecommendStreamRequest:
    """The first message of a stream."""
    return pb.RecommendStreamRequest(start=recommend_request(query))


def stream_events(events: Iterable[Event]) -> pb.RecommendStreamRequest:
    """A later message of a stream."""
    return pb.RecommendStreamRequest(events=pb.EventList(events=_events(events)))


def _add_options(request: pb.RecommendRequest, options: Options) -> None:
    request.allow_item_ids.extend(
        _checks.texts(options.allow_item_ids, "allow_item_ids", "item ids")
    )
    request.conditions.extend(_conditions(options.conditions))
    request.min_score = _checks.number(options.min_score, "min_score")
    request.diversity = _checks.number(options.diversity, "diversity")
    if options.category_cap is not None:
        request.category_cap.CopyFrom(_category_cap(options.category_cap))
    request.reasons = _checks.flag(options.reasons, "reasons")
    request.search_effort = _search_effort(options.search_effort)
    request.exact = _checks.flag(options.exact, "exact")
    request.page_token = _checks.text(options.page_token, "page_token")


def _category_cap(cap: CategoryCap) -> pb.CategoryCap:
    if not isinstance(cap, CategoryCap):
        raise invalid_field("category_cap", f"must be a CategoryCap, not {_checks.kind_of(cap)}")
    return pb.CategoryCap(
        attribute=_checks.text(cap.attribute, "category_cap.attribute"),
        limit=_checks.integer(cap.limit, "category_cap.limit", 1, _MAX_LIMIT),
    )


def _conditions(conditions: Iterable[Condition]) -> list[pb.Condition]:
    return [
        _condition(condition, f"conditions[{number}]")
        for number, condition in enumerate(_checks.iterable(conditions, "conditions", "conditions"))
    ]


def _condition(condition: Condition, field: str) -> pb.Condition:
    match condition:
        case AnyOf():
            message = pb.Condition(any_of=_values(condition.values, f"{field}.any_of"))
        case AllOf():
            message = pb.Condition(all_of=_values(condition.values, f"{field}.all_of"))
        case NoneOf():
            message = pb.Condition(none_of=_values(condition.values, f"{field}.none_of"))
        case NumberRange():
            numbers = _number_range(condition, f"{field}.number_range")
            message = pb.Condition(number_range=numbers)
        case TimeRange():
            times = _time_range(condition, f"{field}.time_range")
            message = pb.Condition(time_range=times)
        case _:
            rule = f"must be a condition, e.g. AnyOf, not {_checks.kind_of(condition)}"
            raise invalid_field(field, rule)
    message.attribute = _checks.text(condition.attribute, f"{field}.attribute")
    return message


def _values(values: Iterable[str], field: str) -> pb.TextValues:
    return pb.TextValues(values=_checks.texts(values, f"{field}.values", "texts"))


def _number_range(numbers: NumberRange, field: str) -> pb.NumberRange:
    least, most = numbers.min, numbers.max
    return pb.NumberRange(
        min=None if least is None else _checks.number(least, f"{field}.min"),
        max=None if most is None else _checks.number(most, f"{field}.max"),
    )


def _time_range(times: TimeRange, field: str) -> pb.TimeRange:
    start, end = times.start, times.end
    return pb.TimeRange(
        start=None if start is None else _checks.timestamp(start, f"{field}.start"),
        end=None if end is None else _checks.timestamp(end, f"{field}.end"),
    )


def _user_id(user_id: str | None) -> str:
    return "" if user_id is None else _checks.text(user_id, "user_id")


def _state(state: bytes) -> bytes:
    if not isinstance(state, bytes):
        raise invalid_field("state", f"must be bytes, not {_checks.kind_of(state)}")
    return state


def _limit(limit: int | None) -> int:
    """The limit as the wire has it, where zero asks for the service's default."""
    return 0 if limit is None else _checks.integer(limit, "limit", 1, _MAX_LIMIT)


def _search_effort(effort: int) -> int:
    """The effort as the wire has it, where zero is the usual one."""
    effort = _checks.integer(effort, "search_effort", 1, _MAX_SEARCH_EFFORT)
    return 0 if effort == 1 else effort


def _events(events: Iterable[Event]) -> list[pb.Event]:
    messages: list[pb.Event] = []
    for event in _checks.iterable(events, "events", "events"):
        # The path is put together only for an event at fault: there may be thousands.
        try:
            messages.append(_event(event))
        except InvalidRequestError as error:
            (fault,) = error.violations
            path = f"events[{len(messages)}]{fault.field}"
            raise invalid_field(path, fault.rule) from error
    return messages


def _event(event: Event) -> pb.Event:
    """Convert an event; the fields of errors are relative to it."""
    if not isinstance(event, Event):
        raise invalid_field("", f"must be an Event, not {_checks.kind_of(event)}")
    return pb.Event(
        item_id=_checks.text(event.item_id, ".item_id"),
        event_type=_checks.text(event.event_type, ".event_type"),
        time=None if event.time is None else _checks.timestamp(event.time, ".time"),
        value=None if event.value is None else _checks.number(event.value, ".value"),
    )
