"""Cleaning: what no model should learn from is taken out of the events, step by step, counted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import narwhals as nw

from kinrec.engine import MAX_ID_BYTES
from kinrec.trainer import duplicates, noise
from kinrec.trainer.cleaning_config import KEEP, CleaningConfig, Filling
from kinrec.trainer.errors import DataError
from kinrec.trainer.fields import is_blank
from kinrec.trainer.frames import settle
from kinrec.trainer.missing import fill_missing, find_substitute
from kinrec.trainer.reading import (
    EVENT_COLUMNS,
    EVENT_TYPE,
    INPUT_ORDER,
    ITEM_ID,
    TIMESTAMP,
    USER_ID,
    VALUE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    _Step = Callable[[nw.LazyFrame[Any]], nw.LazyFrame[Any]]

_MOST_BYTES_PER_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class CleaningStep:
    """What a step did.

    Attributes:
        name: The step, e.g. ``exact_duplicates``; ``k_core`` for the two minimums.
        removed: The number of events it removed.
        left: The number of events that were left after it.
        filled: The number of missing entries that it filled in.
    """

    name: str
    removed: int
    left: int
    filled: int = 0


@dataclass(frozen=True, slots=True)
class Substitutes:
    """What was put in the place of missing entries, as far as it can be put into requests too.

    Attributes:
        value: The value of events without one; None if they have none.
        event_type: The type of events without one; empty if they have none.
    """

    value: float | None = None
    event_type: str = ""


NO_SUBSTITUTES = Substitutes()


@dataclass(frozen=True, slots=True)
class CleanedEvents:
    """Events fit to learn from.

    Attributes:
        frame: The columns of ``read_events``, ordered by ``user_id``, ``timestamp`` and
            ``input_order``; held in memory.
        steps: What each step did, in order; steps that were not asked for are left out.
        substitutes: What requests get in the place of missing entries.
    """

    frame: nw.LazyFrame[Any]
    steps: tuple[CleaningStep, ...]
    substitutes: Substitutes


def clean_events(
    frame: nw.LazyFrame[Any],
    config: CleaningConfig,
    *,
    min_events: int = 1,
    now: float | None = None,
    items: Mapping[str, Sequence[str]] | None = None,
) -> CleanedEvents:
    """Take out of the events what no model should learn from.

    Events without a user or an item, with ids that the server would refuse, and without a time
    after ``config.missing_time`` are always removed. But for events of one user at the same time
    the result does not depend on the order of the rows; missing times that are interpolated or
    smoothed go by it, as they have nothing else.

    Args:
        frame: Events as ``read_events`` gives them.
        config: The steps to take.
        min_events: The least number of events to be left.
        now: The latest time where the configuration says now, in seconds since 1970 UTC; the time
            of the call if None.
        items: By the name of a step, such as ``missing_attribute.price``, the ids of the items
            whose events it keeps.

    Raises:
        DataError: Fewer than ``min_events`` are left; says how many each step removed.
    """
    run = _Run(frame)
    run.take("missing_ids", _drop_missing_ids)
    run.fill("missing_timestamps", TIMESTAMP, config.filling("missing_time"))
    run.take("long_ids", _drop_long_ids)
    event_type = run.fill("missing_types", EVENT_TYPE, config.filling("missing_type"))
    value = run.fill("missing_values", VALUE, config.filling("missing_value"))
    for name, kept in (items or {}).items():
        run.take(name, partial(_keep_items, kept=kept))
    for name, wanted, step in _steps(config, time.time() if now is None else now):
        if wanted:
            run.take(name, step)
    if run.left < min_events:
        raise DataError(_too_few(run, min_events))
    frame = run.frame.sort(USER_ID, TIMESTAMP, INPUT_ORDER).select(*EVENT_COLUMNS, INPUT_ORDER)
    substitutes = Substitutes(
        None if value is None else float(value), "" if event_type is None else str(event_type)
    )
    return CleanedEvents(frame, tuple(run.steps), substitutes)


def _steps(config: CleaningConfig, now: float) -> list[tuple[str, bool, _Step]]:
    """List the steps after the missing entries in order: name, whether it is wanted, what it does.

    Equal rows go first, as they were one event. A robot is known by all that it did. What requests
    repeat comes last, so that it sees of a history what the engine will see.
    """
    earliest, latest = config.earliest, config.latest(now)
    least = config.min_value
    return [
        ("exact_duplicates", config.drop_exact_duplicates, duplicates.drop_exact_duplicates),
        (
            "outside_time_range",
            earliest is not None or latest is not None,
            lambda frame: noise.keep_between(frame, earliest, latest),
        ),
        (
            "fast_users",
            config.max_events_per_hour > 0,
            lambda frame: noise.drop_fast_users(frame, config.max_events_per_hour),
        ),
        (
            "unknown_types",
            bool(config.known_types),
            lambda frame: noise.keep_types(frame, config.known_types),
        ),
        (
            "low_values",
            least is not None,
            lambda frame: noise.drop_low_values(frame, least or 0.0, config.min_value_types),
        ),
        (
            "repeats_in_window",
            config.repeat_window > 0.0,
            lambda frame: duplicates.drop_repeats_in_window(frame, config.repeat_window),
        ),
        (
            "once_types",
            bool(config.once_types),
            lambda frame: duplicates.keep_first_of_types(frame, config.once_types),
        ),
        ("immediate_repeats", config.drop_immediate_repeats, duplicates.drop_immediate_repeats),
        (
            "k_core",
            config.min_user_events > 1 or config.min_item_events > 1,
            lambda frame: noise.keep_frequent(frame, config),
        ),
    ]


class _Run:
    """The steps so far: what is left, and what each did."""

    def __init__(self, frame: nw.LazyFrame[Any]) -> None:
        self.frame, self.received = settle(frame)
        self.left = self.received
        self.steps: list[CleaningStep] = []

    def take(self, name: str, step: _Step) -> None:
        """Take a step that removes events."""
        before = self.left
        self.frame, self.left = settle(step(self.frame))
        self.steps.append(CleaningStep(name, before - self.left, self.left))

    def fill(self, name: str, column: str, filling: Filling) -> float | str | None:
        """Drop or fill in missing entries, and give what stands for them in requests."""
        if filling.method == KEEP:
            return None
        substitute = find_substitute(self.frame, column, filling)
        before, missing = self.left, self._missing(column)
        frame = fill_missing(self.frame, column, filling, substitute)
        if column == TIMESTAMP:  # what could not be filled has no place in a history
            frame = frame.filter(~nw.col(TIMESTAMP).is_null())
        self.frame, self.left = settle(frame)
        removed = before - self.left
        filled = missing - self._missing(column) - removed
        self.steps.append(CleaningStep(name, removed, self.left, filled))
        return substitute

    def _missing(self, column: str) -> int:
        return int(self.frame.select(nw.col(column).is_null().sum()).collect().item())


def _drop_missing_ids(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    return frame.filter(
        ~is_blank(USER_ID),
        ~is_blank(ITEM_ID),
        ~nw.col(USER_ID).str.contains("\0", literal=True),
        ~nw.col(ITEM_ID).str.contains("\0", literal=True),
    )


def _keep_items(frame: nw.LazyFrame[Any], kept: Sequence[str]) -> nw.LazyFrame[Any]:
    return frame.filter(nw.col(ITEM_ID).is_in(kept))


def _drop_long_ids(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    lengths = frame.select(nw.col(USER_ID, ITEM_ID).str.len_chars().max()).collect().row(0)
    if max(length or 0 for length in lengths) * _MOST_BYTES_PER_CHARACTER <= MAX_ID_BYTES:
        return frame  # the rule below is slow, and not needed for ids of any usual length
    return frame.filter(_utf8_bytes(USER_ID) <= MAX_ID_BYTES, _utf8_bytes(ITEM_ID) <= MAX_ID_BYTES)


def _utf8_bytes(column: str) -> nw.Expr:
    """The length of a text in UTF-8 bytes, of which Narwhals knows only characters."""
    text = nw.col(column)
    for first, last, size in (("\u0080", "\u07ff", 2), ("\u0800", "\uffff", 3)):
        text = text.str.replace_all(f"[{first}-{last}]", "x" * size)
    return text.str.replace_all("[\U00010000-\U0010ffff]", "xxxx").str.len_chars()


def _too_few(run: _Run, least: int) -> str:
    reason = blame(tuple(run.steps))
    if not reason:
        return f"{run.left} events are too few to learn from; at least {least} are needed"
    return f"of {run.received} events {run.left} are left, at least {least} are needed{reason}"


def blame(steps: tuple[CleaningStep, ...]) -> str:
    """Say what each step removed and which one most of all, after a semicolon; empty if none did."""
    worst = max(steps, key=lambda step: step.removed, default=None)
    if worst is None or worst.removed == 0:
        return ""
    counts = ", ".join(f"{step.name} {step.removed}" for step in steps)
    if worst.removed <= worst.left:
        return f"; cleaning removed: {counts}"
    return f"; {worst.name} removed most (removed: {counts})"
