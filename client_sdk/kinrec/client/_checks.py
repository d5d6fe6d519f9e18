"""What a value must be for a message to hold it. A value that is not is named by its field."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.client._errors import invalid_field

_T = TypeVar("_T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = (float, Real)  # float first: to ask an abstract class is slow
_NANOS = 1_000_000_000
MAX_INT32 = 2**31 - 1

# google.protobuf.Timestamp holds the years 1 to 9999.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799


def kind_of(value: object) -> str:
    """The name of a value's type, for the text of an error."""
    return type(value).__name__


def iterable(values: Iterable[_T], field: str, what: str) -> Iterable[_T]:
    """Refuse what is none, and a string: it is an iterable of strings, and never what was meant."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise invalid_field(field, f"must be a sequence of {what}, not {kind_of(values)}")
    return values


def texts(values: Iterable[str], field: str, what: str) -> list[str]:
    """Refuse what is no iterable of strings that a message can hold."""
    return [
        text(value, f"{field}[{number}]")
        for number, value in enumerate(iterable(values, field, what))
    ]


def text(value: str, field: str) -> str:
    """Refuse what is no string that a message can hold."""
    if not isinstance(value, str):
        raise invalid_field(field, f"must be a string, not {kind_of(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise invalid_field(field, "must be Unicode text without lone surrogates") from error
    return value


def flag(value: bool, field: str) -> bool:  # noqa: FBT001 - the value that is checked
    """Refuse what is no bool."""
    if not isinstance(value, bool):
        raise invalid_field(field, f"must be a bool, not {kind_of(value)}")
    return value


def integer(value: int, field: str, least: int, most: int) -> int:
    """Refuse what is no integer from `least` on that a message can hold.

    Above `most`, which the text names, the service itself says so while the message can hold it.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise invalid_field(field, f"must be an integer, not {kind_of(value)}")
    if not least <= value <= MAX_INT32:
        raise invalid_field(field, f"must be from {least} to {most}, not {value}")
    return int(value)


def number(value: float, field: str) -> float:
    """Refuse what is no number that a message can hold."""
    if not _is_number(value):
        raise invalid_field(field, f"must be a number, not {kind_of(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise invalid_field(field, "must be finite") from error


def timestamp(time: datetime | float, field: str) -> Timestamp:
    """Refuse what names no moment in the years 1 to 9999."""
    if isinstance(time, datetime):
        seconds, nanos = _split_datetime(time, field)
    elif _is_number(time):
        seconds, nanos = _split_seconds(number(time, field), field)
    else:
        rule = f"must be a datetime with a time zone or unix seconds, not {kind_of(time)}"
        raise invalid_field(field, rule)
    if not _MIN_SECONDS <= seconds <= _MAX_SECONDS:
        raise invalid_field(field, "must lie in the years 1 to 9999")
    return Timestamp(seconds=seconds, nanos=nanos)


def _split_datetime(time: datetime, field: str) -> tuple[int, int]:
    try:
        has_zone = time.utcoffset() is not None
    except ValueError as error:  # pandas' NaT is a datetime and has no parts
        raise invalid_field(field, "must be a moment in time") from error
    if not has_zone:
        raise invalid_field(field, "must have a time zone, e.g. datetime.now(UTC)")
    since = time - _EPOCH
    return since.days * 86_400 + since.seconds, since.microseconds * 1000


def _split_seconds(time: float, field: str) -> tuple[int, int]:
    if not _MIN_SECONDS <= time <= _MAX_SECONDS:
        rule = "must be unix seconds within the years 1 to 9999"
        raise invalid_field(field, f"{rule}; are these milliseconds?" if time > 0 else rule)
    seconds = math.floor(time)
    carry, nanos = divmod(round((time - seconds) * _NANOS), _NANOS)
    return seconds + carry, nanos


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)
