"""Cleaning: what no model should learn from is taken out of the events, step by step, counted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw

from kinrec.engine import MAX_ID_BYTES
from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.fields import is_blank
from kinrec.trainer.reading import (
    EVENT_COLUMNS,
    EVENT_TYPE,
    INPUT_ORDER,
    ITEM_ID,
    TIMESTAMP,
    USER_ID,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    _Step = Callable[[nw.LazyFrame[Any]], nw.LazyFrame[Any]]

_MOST_BYTES_PER_CHARACTER = 4
_MOST_CORE_ROUNDS = 1_000
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningSpec:
    """What cleaning takes out, in this order.

    Attributes:
        missing_ids: Events whose user or item is null or blank, or holds a NUL character, at which
            the id map would cut it.
        missing_timestamps: Events without a time.
        long_ids: Events with an id of more than 512 bytes, which the server would refuse.
        exact_duplicates: Events that equal an earlier one in every column.
        immediate_repeats: Events with the item and type of the same user's event before.
        min_user_events: Users with fewer events, and those events. At least 1, which keeps all.
        min_item_events: Items with fewer events, and those events. At least 1, which keeps all.
        min_events: With fewer events left in the end, cleaning fails. At least 1.
    """

    missing_ids: bool = True
    missing_timestamps: bool = True
    long_ids: bool = True
    exact_duplicates: bool = True
    immediate_repeats: bool = True
    min_user_events: int = 1
    min_item_events: int = 1
    min_events: int = 1

    def __post_init__(self) -> None:
        for key in ("min_user_events", "min_item_events", "min_events"):
            value = getattr(self, key)
            if value < 1:
                raise ConfigError(key, value, "must be at least 1")


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """What a step did.

    Attributes:
        name: The step, by the name it has in ``CleaningSpec``; ``k_core`` for the two minimums.
        removed: The number of events it removed.
        left: The number of events that were left after it.
    """

    name: str
    removed: int
    left: int


@dataclass(frozen=True, slots=True)
class CleanedEvents:
    """Events fit to learn from.

    Attributes:
        frame: The columns of ``read_events``, ordered by ``user_id``, ``timestamp`` and
            ``input_order``; held in memory.
        steps: What each step did, in order; steps that were not asked for are left out.
    """

    frame: nw.LazyFrame[Any]
    steps: tuple[CleaningStep, ...]


def clean_events(frame: nw.LazyFrame[Any], spec: CleaningSpec) -> CleanedEvents:
    """Take out of the events what no model should learn from.

    Args:
        frame: Events as ``read_events`` gives them.
        spec: The steps to take.

    Raises:
        DataError: Fewer than ``spec.min_events`` are left; says how many each step removed.
    """
    frame, received = _settle(frame)
    steps: list[CleaningStep] = []
    left = received
    for name, step in _steps(spec):
        frame, now = _settle(step(frame))
        steps.append(CleaningStep(name, left - now, now))
        left = now
    if left < spec.min_events:
        raise DataError(_too_few(received, left, spec.min_events, steps))
    frame = frame.sort(USER_ID, TIMESTAMP, INPUT_ORDER)
    return CleanedEvents(frame.select(*EVENT_COLUMNS, INPUT_ORDER), tuple(steps))


def _steps(spec: CleaningSpec) -> list[tuple[str, _Step]]:
    """List the steps that are asked for, in order."""
    has_minimum = spec.min_user_events > 1 or spec.min_item_events > 1
    steps: list[tuple[str, bool, _Step]] = [
        ("missing_ids", spec.missing_ids, _drop_missing_ids),
        ("missing_timestamps", spec.missing_timestamps, _drop_missing_timestamps),
        ("long_ids", spec.long_ids, _drop_long_ids),
        ("exact_duplicates", spec.exact_duplicates, _drop_exact_duplicates),
        ("immediate_repeats", spec.immediate_repeats, _drop_immediate_repeats),
        ("k_core", has_minimum, lambda frame: _keep_core(frame, spec)),
    ]
    return [(name, step) for name, wanted, step in steps if wanted]


def _drop_missing_ids(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    return frame.filter(
        ~is_blank(USER_ID),
        ~is_blank(ITEM_ID),
        ~nw.col(USER_ID).str.contains("\0", literal=True),
        ~nw.col(ITEM_ID).str.contains("\0", literal=True),
    )


def _drop_missing_timestamps(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    return frame.filter(~nw.col(TIMESTAMP).is_null())


def _drop_long_ids(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    lengths = frame.select(nw.col(USER_ID, ITEM_ID).str.len_chars().max()).collect().row(0)
    if max(length or 0 for length in lengths) * _MOST_BYTES_PER_CHARACTER <= MAX_ID_BYTES:
        return frame  # the rule below is slow, and not needed for ids of any usual length
    return frame.filter(_utf8_bytes(USER_ID) <= MAX_ID_BYTES, _utf8_bytes(ITEM_ID) <= MAX_ID_BYTES)


def _drop_exact_duplicates(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    return frame.unique(list(EVENT_COLUMNS), keep="first", order_by=INPUT_ORDER)


def _drop_immediate_repeats(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    def before(column: nw.Expr) -> nw.Expr:
        return column.shift(1).over(USER_ID, order_by=[TIMESTAMP, INPUT_ORDER])

    event_type = nw.col(EVENT_TYPE).fill_null("")
    repeats = (nw.col(ITEM_ID) == before(nw.col(ITEM_ID))) & (event_type == before(event_type))
    return frame.filter(~repeats.fill_null(value=False))


def _keep_core(frame: nw.LazyFrame[Any], spec: CleaningSpec) -> nw.LazyFrame[Any]:
    """Drop rare users and items until none is left, for one drop can make others rare."""
    frame, before = _settle(frame)
    for _ in range(_MOST_CORE_ROUNDS):
        frame = frame.filter(nw.len().over(USER_ID) >= spec.min_user_events)
        frame = frame.filter(nw.len().over(ITEM_ID) >= spec.min_item_events)
        frame, left = _settle(frame)
        if left == before:
            return frame
        before = left
    _logger.warning("the minimums are not met by all after %d rounds", _MOST_CORE_ROUNDS)
    return frame


def _settle(frame: nw.LazyFrame[Any]) -> tuple[nw.LazyFrame[Any], int]:
    """Run what is pending, so that it runs once, and count the rows.

    The one place that holds all rows in memory: a backend on a cluster would cache them there.
    """
    collected = frame.collect()
    return collected.lazy(), len(collected)


def _utf8_bytes(column: str) -> nw.Expr:
    """The length of a text in UTF-8 bytes, of which Narwhals knows only characters."""
    text = nw.col(column)
    for first, last, size in (("\u0080", "\u07ff", 2), ("\u0800", "\uffff", 3)):
        text = text.str.replace_all(f"[{first}-{last}]", "x" * size)
    return text.str.replace_all("[\U00010000-\U0010ffff]", "xxxx").str.len_chars()


def _too_few(received: int, left: int, least: int, steps: list[CleaningStep]) -> str:
    worst = max(steps, key=lambda step: step.removed, default=None)
    if worst is None or worst.removed == 0:
        return f"{left} events are too few to learn from; at least {least} are needed"
    counts = ", ".join(f"{step.name} {step.removed}" for step in steps)
    return (
        f"of {received} events {left} are left, at least {least} are needed; "
        f"{worst.name} removed most (removed: {counts})"
    )
