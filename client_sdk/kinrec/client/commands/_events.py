"""Events as they are typed, and as they stand in a file of JSON lines."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.client import Event, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_T = TypeVar("_T")

_STANDARD_INPUT = "-"
_FIELDS = ("item_id", "event_type", "timestamp", "value")
_USER = "user_id"


class LinesFileError(Exception):
    """A file of JSON lines cannot be read. The text is one line that names the file and the line."""


class LineError(LinesFileError):
    """One line of it cannot be read; those after it may."""


class RowError(ValueError):
    """The JSON value of a line is not what is read from it."""


def parse_event(text: str) -> Event:
    """Read ``ITEM[:TYPE[:TIME]]``; TYPE ends at the second colon and TIME is the rest.

    Raises:
        ValueError: The item is missing or the time cannot be read.
    """
    item_id, _, rest = text.partition(":")
    event_type, _, time = rest.partition(":")
    if not item_id:
        raise ValueError("the item id is missing")
    return Event(item_id, event_type, time=parse_time(time) if time else None)


def parse_time(text: str) -> datetime | float:
    """Read unix seconds, or ISO 8601 with a time zone.

    Raises:
        ValueError: The text is neither.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"not a time: {text!r}") from error
    if time.tzinfo is None:
        raise ValueError(f"a time needs a time zone, e.g. {time.isoformat()}Z")
    return time


def read_lines(path: str, read: Callable[[object], _T]) -> Iterator[_T]:
    """Read a file with a JSON value per line to the first line that cannot be read; see `read_each`.

    Raises:
        LinesFileError: The file or a line cannot be read.
    """
    for value in read_each(path, read):
        if isinstance(value, LineError):
            raise value
        yield value


def read_each(path: str, read: Callable[[object], _T]) -> Iterator[_T | LineError]:
    """Read a file with a JSON value per line, line by line as they come; empty ones are passed over.

    Args:
        path: The file; ``-`` is standard input.
        read: From the value of a line; it raises ValueError or InvalidRequestError if it cannot be.

    Yields:
        What was read, or in its place why it could not be.

    Raises:
        LinesFileError: The file cannot be read.
    """
    with _reading(path) as (name, lines):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                value: _T | LineError
                try:
                    value = read(_decode(line))
                except (ValueError, InvalidRequestError) as error:
                    value = LineError(f"{name}, line {number}: {error}")
                yield value


def event_of(row: object) -> Event:
    """Read an event, also as it stands in a log: with a user, who is passed over.

    Raises:
        ValueError: It is none, or has a field that an event does not have: a type or a time under
            another name would be lost without a word.
    """
    if not isinstance(row, dict) or "item_id" not in row:
        raise ValueError("must be a JSON object with an item_id")
    fields = dict(known(row, (*_FIELDS, _USER), "an event"))
    time = fields.get("timestamp")
    return Event(
        item_id=row["item_id"],
        event_type=fields.get("event_type", ""),
        time=parse_time(time) if isinstance(time, str) else time,
        value=fields.get("value"),
    )


def known(fields: dict[str, Any], names: Iterable[str], what: str) -> Iterator[tuple[str, Any]]:
    """Give the fields of a JSON object that are not null.

    Raises:
        RowError: One is not among the names.
    """
    for name, value in fields.items():
        if name not in names:
            raise RowError(f"{what} has no field {name!r}; its fields are {', '.join(names)}")
        if value is not None:
            yield name, value


def _decode(line: bytes) -> object:
    try:
        value: object = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    return value


@contextmanager
def _reading(path: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Open a file, or standard input, and give its name."""
    name = "standard input" if path == _STANDARD_INPUT else path
    try:
        if path == _STANDARD_INPUT:
            yield name, sys.stdin.buffer
        else:
            with Path(path).open("rb") as lines:
                yield name, lines
    except OSError as error:
        raise LinesFileError(f"{name}: {error.strerror}") from error
