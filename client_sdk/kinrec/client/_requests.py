"""From Python values to request messages. Pure: nothing is sent here.

Only what a message cannot hold is refused here; the rules of the service, such as the most events
of a request, are the server's to apply.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.client._errors import InvalidRequestError, invalid_field
from kinrec.client._types import Event
from kinrec.v1 import recommender_pb2 as pb

_T = TypeVar("_T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INT32 = 2**31 - 1
_NUMBERS = (float, Real)  # float first: to ask an abstract class is slow
_NANOS = 1_000_000_000

# google.protobuf.Timestamp holds the years 1 to 9999.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799


def encode_sequence_request(
    events: Iterable[Event], *, user_id: str | None, state: bytes = b""
) -> pb.EncodeSequenceRequest:
    """A request to encode a person's behaviour."""
    return pb.EncodeSequenceRequest(
        user_id=_user_id(user_id), events=_events(events), state=_state(state)
    )


def similar_users_request(
    events: Iterable[Event], *, user_id: str | None, state: bytes = b"", limit: int | None
) -> pb.SimilarUsersRequest:
    """A request for the users who behave alike."""
    return pb.SimilarUsersRequest(
        user_id=_user_id(user_id),
        events=_events(events),
        state=_state(state),
        limit=_limit(limit),
    )


def recommend_request(
    events: Iterable[Event],
    *,
    user_id: str | None,
    state: bytes = b"",
    limit: int | None,
    include_seen: bool | None,
    exclude_item_ids: Iterable[str],
) -> pb.RecommendRequest:
    """A request for recommendations."""
    if include_seen is not None and not isinstance(include_seen, bool):
        raise invalid_field("include_seen", f"must be a bool, not {_kind(include_seen)}")
    return pb.RecommendRequest(
        user_id=_user_id(user_id),
        events=_events(events),
        state=_state(state),
        limit=_limit(limit),
        include_seen=include_seen,
        exclude_item_ids=[
            _text(item_id, f"exclude_item_ids[{number}]")
            for number, item_id in enumerate(
                _iterable(exclude_item_ids, "exclude_item_ids", "item ids")
            )
        ],
    )


def _user_id(user_id: str | None) -> str:
    return "" if user_id is None else _text(user_id, "user_id")


def _state(state: bytes) -> bytes:
    if not isinstance(state, bytes):
        raise invalid_field("state", f"must be bytes, not {_kind(state)}")
    return state


def _limit(limit: int | None) -> int:
    """The limit as the wire has it, where zero asks for the service's default."""
    if limit is None:
        return 0
    if isinstance(limit, bool) or not isinstance(limit, Integral):
        raise invalid_field("limit", f"must be an integer, not {_kind(limit)}")
    # Above what it answers with at most, the service itself says so while the message can hold it.
    if not 1 <= limit <= _MAX_INT32:
        raise invalid_field("limit", f"must be from 1 to 1000, not {limit}")
    return int(limit)


def _events(events: Iterable[Event]) -> list[pb.Event]:
    messages: list[pb.Event] = []
    for event in _iterable(events, "events", "events"):
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
        raise invalid_field("", f"must be an Event, not {_kind(event)}")
    return pb.Event(
        item_id=_text(event.item_id, ".item_id"),
        event_type=_text(event.event_type, ".event_type"),
        time=None if event.time is None else _timestamp(event.time),
        value=None if event.value is None else _number(event.value, ".value"),
    )


def _timestamp(time: datetime | float) -> Timestamp:
    if isinstance(time, datetime):
        seconds, nanos = _split_datetime(time)
    elif _is_number(time):
        seconds, nanos = _split_seconds(_number(time, ".time"))
    else:
        rule = f"must be a datetime with a time zone or unix seconds, not {_kind(time)}"
        raise invalid_field(".time", rule)
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        raise invalid_field(".time", "must lie in the years 1 to 9999")
    return Timestamp(seconds=seconds, nanos=nanos)


def _split_datetime(time: datetime) -> tuple[int, int]:
    try:
        has_zone = time.utcoffset() is not None
    except ValueError as error:  # pandas' NaT is a datetime and has no parts
        raise invalid_field(".time", "must be a moment in time") from error
    if not has_zone:
        raise invalid_field(".time", "must have a time zone, e.g. datetime.now(UTC)")
    since = time - _EPOCH
    return since.days * 86_400 + since.seconds, since.microseconds * 1000


def _split_seconds(time: float) -> tuple[int, int]:
    if not _MIN_SECONDS <= time <= _MAX_SECONDS:
        rule = "must be unix seconds within the years 1 to 9999"
        raise invalid_field(".time", f"{rule}; are these milliseconds?" if time > 0 else rule)
    seconds = math.floor(time)
    carry, nanos = divmod(round((time - seconds) * _NANOS), _NANOS)
    return seconds + carry, nanos


def _number(value: float, field: str) -> float:
    if not _is_number(value):
        raise invalid_field(field, f"must be a number, not {_kind(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise invalid_field(field, "must be finite") from error


def _text(value: str, field: str) -> str:
    if not isinstance(value, str):
        raise invalid_field(field, f"must be a string, not {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise invalid_field(field, "must be Unicode text without lone surrogates") from error
    return value


def _iterable(values: Iterable[_T], field: str, what: str) -> Iterable[_T]:
    # A string is an iterable of strings, and never what was meant.
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise invalid_field(field, f"must be a sequence of {what}, not {_kind(values)}")
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _kind(value: object) -> str:
    return type(value).__name__
