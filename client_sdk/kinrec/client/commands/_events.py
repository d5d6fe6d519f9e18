"""Events as they are typed, and as they stand in a file of JSON lines."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.client import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STANDARD_INPUT = "-"


class EventsFileError(Exception):
    """A file of events cannot be read. The text is one line that names the file and the line."""


def parse_event(text: str) -> Event:
    """Read ``ITEM[:TYPE[:TIME]]``; TYPE ends at the second colon and TIME is the rest.

    Raises:
        ValueError: The item is missing or the time cannot be read.
    """
    item_id, _, rest = text.partition(":")
    event_type, _, time = rest.partition(":")
    if not item_id:
        raise ValueError("the item id is missing")
    return Event(item_id, event_type, time=_parse_time(time) if time else None)


def read_events(path: str) -> list[Event]:
    """Read a file with an event per line; empty lines are passed over.

    Args:
        path: The file; ``-`` is standard input.

    Raises:
        EventsFileError: The file or a line cannot be read.
    """
    try:
        if path == _STANDARD_INPUT:
            return list(_read_lines(sys.stdin, "standard input"))
        with Path(path).open(encoding="utf-8") as lines:
            return list(_read_lines(lines, path))
    except OSError as error:
        raise EventsFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EventsFileError(f"{path}: not UTF-8 text") from error


def _read_lines(lines: Iterable[str], name: str) -> Iterator[Event]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _read_line(line)
            except ValueError as error:
                raise EventsFileError(f"{name}, line {number}: {error}") from error


def _read_line(line: str) -> Event:
    """Read an event. Fields of a log that an event does not have are passed over."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(row, dict) or "item_id" not in row:
        raise ValueError("must be a JSON object with an item_id")
    time = row.get("timestamp")
    return Event(
        item_id=row["item_id"],
        event_type=row.get("event_type") or "",
        time=_parse_time(time) if isinstance(time, str) else time,
        value=row.get("value"),
    )


def _parse_time(text: str) -> datetime | float:
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
