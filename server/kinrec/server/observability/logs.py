"""What the processes of a server write to standard error: a line for each message, as text or JSON."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING

import structlog

from kinrec.server.observability.observing import Observing

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import EventDict, Processor, WrappedLogger

_LEAD = ("timestamp", "level", "logger", "event")


def configure(observing: Observing | None = None) -> None:
    """Write the messages of all libraries.

    Args:
        observing: How, and from which level on; as by default if None.
    """
    observing = observing or Observing()
    processors: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if observing.log_personal_data else _format_error,
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if observing.log_format == "json":
        last += [_in_order, structlog.processors.JSONRenderer(default=str)]
    else:
        last.append(_as_text)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=processors, processors=last)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(observing.log_level.upper())


def _format_error(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Say where an error came from, and its text only where it can tell of nobody.

    The text of an error that nobody expected while a call was answered can hold what the call held.
    """
    found = event.pop("exc_info", None)
    if not found:
        return event
    kind, error, trace = found
    if "request_id" not in event:
        event["exception"] = "".join(traceback.format_exception(kind, error, trace)).rstrip()
    elif error is not None:
        event["exception"] = "\n".join(_without_texts(error, trace))
    return event


def _without_texts(error: BaseException, trace: TracebackType | None) -> list[str]:
    """Give the frames and the kinds of an error and of those that led to it, the first one first."""
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = traceback.format_tb(trace if current is error else current.__traceback__)
        kind = type(current)
        lines = ["".join(frames).rstrip(), f"{kind.__module__}.{kind.__qualname__}", *lines]
        current = current.__cause__ or current.__context__
    return [line for line in lines if line]


def _in_order(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Put what every line has first."""
    lead = {name: event.pop(name) for name in _LEAD if name in event}
    return {**lead, **event}


def _as_text(_logger: WrappedLogger, _name: str, event: EventDict) -> str:
    """Write what every line has, and then what this one has beside it, as ``name=value``."""
    timestamp, level, logger, text = (event.pop(name, "") for name in _LEAD)
    exception = event.pop("exception", "")
    more = "".join(f" {name}={value}" for name, value in event.items())
    lines = f"{timestamp} {str(level).upper()} {logger}: {text}{more}"
    return f"{lines}\n{exception}" if exception else lines
