"""What cleaning takes out of a log and what it fills in: one frozen object, checked whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from kinrec.trainer.errors import ConfigError
from kinrec.trainer.times import parse_time

KEEP = "keep"
DROP = "drop"
CONSTANT = "constant"
MEAN = "mean"
MEDIAN = "median"
MOST_FREQUENT = "most_frequent"
INTERPOLATE = "interpolate"
GAUSSIAN = "gaussian"

ALL = "all"
USER = "user"
ITEM = "item"

NOW = "now"

_STATISTICS = (MEAN, MEDIAN, MOST_FREQUENT)
_SMOOTH = (INTERPOLATE, GAUSSIAN)
_METHODS = {
    "missing_value": (KEEP, DROP, CONSTANT, *_STATISTICS, *_SMOOTH),
    "missing_type": (KEEP, DROP, CONSTANT, MOST_FREQUENT),
    "missing_time": (DROP, CONSTANT, *_STATISTICS, *_SMOOTH),
    "missing_attribute": (KEEP, DROP, CONSTANT, *_STATISTICS),
}
_CONSTANTS = {
    "missing_value": "constant:NUMBER",
    "missing_type": "constant:NAME",
    "missing_time": "constant:TIME",
    "missing_attribute": "constant:VALUE",
}


@dataclass(frozen=True, slots=True)
class Filling:
    """What becomes of the missing entries of a column.

    Attributes:
        method: ``keep``, ``drop``, ``constant``, ``mean``, ``median``, ``most_frequent``,
            ``interpolate`` or ``gaussian``.
        by: Over what a mean, median or most frequent entry is taken: ``all``, or each ``user`` or
            ``item``.
        constant: The entry that is put in: a number for values, seconds since 1970 UTC for times,
            a name for types, text for attributes. None for other methods.
    """

    method: str
    by: str = ALL
    constant: float | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningConfig:
    """What cleaning takes out and fills in, in the order of its steps.

    Attributes:
        missing_time: What becomes of events without a time: drop, constant:TIME, mean, median or
            most_frequent (over all, or with :user or :item), interpolate or gaussian (along the
            rows of the same user in the files).
        missing_type: What becomes of events without a type: keep, drop, constant:NAME, or
            most_frequent (over all, or with :user or :item).
        missing_value: What becomes of events without a value: keep, drop, constant:NUMBER, mean,
            median or most_frequent (over all, or with :user or :item), interpolate or gaussian
            (along the times of the same user).
        missing_title: The title of items that have none.
        missing_attribute: By the name of an attribute what becomes of items without it: keep, drop
            (with their events), constant:VALUE, mean or median (of numbers and times), or
            most_frequent, over all items. keep if not given.
        drop_exact_duplicates: Whether events that equal another in every column are left out.
        known_types: The event types that are taken; events of others are left out. Empty takes all.
        earliest_time: Events before this time are left out: a date or time in ISO 8601, UTC unless
            it has a zone, or seconds since 1970. Empty has no bound.
        latest_time: Events after this time are left out: likewise, or now for the time at which
            training starts. Empty has no bound.
        max_events_per_hour: Users with more events in any 3,600 seconds are left out, as no person
            is so fast. 0 keeps all.
        min_value: Events with a lower value are left out; those without a value are not.
        min_value_types: The event types that min_value is for. Empty is for all.
        repeat_window: An event with the user, item and type of one that was taken at most as many
            seconds before is left out. 0 keeps all.
        once_types: Event types that mean the same however often they come: of each user, item and
            type the first is taken.
        drop_immediate_repeats: Whether an event with the item and type of the one before is left
            out, in the log and in requests.
        min_user_events: Users with fewer events are left out.
        min_item_events: Items with fewer events are left out.
        minimums_once: Whether the two minimums are applied once, to users and then to items, and
            not again until all that are left meet both.
        session_gap: After as many seconds without an event a new session starts. Transitions and
            training sequences do not cross it, and the encoder sees the latest session of a person.
            0 has no sessions.
        type_weight: How much an event of a type counts, relative to 1. Types that are not given go
            by their name, e.g. view 1, cart 3, buy 5.
    """

    missing_time: str = DROP
    missing_type: str = KEEP
    missing_value: str = KEEP
    missing_title: str = ""
    missing_attribute: tuple[tuple[str, str], ...] = ()
    drop_exact_duplicates: bool = True
    known_types: tuple[str, ...] = ()
    earliest_time: str = ""
    latest_time: str = ""
    max_events_per_hour: int = 0
    min_value: float | None = None
    min_value_types: tuple[str, ...] = ()
    repeat_window: float = 0.0
    once_types: tuple[str, ...] = ()
    drop_immediate_repeats: bool = True
    min_user_events: int = 1
    min_item_events: int = 1
    minimums_once: bool = False
    session_gap: float = 0.0
    type_weight: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(field.name, value, "must be finite")
        for key, least, most in RANGES:
            value = getattr(self, key)
            if not least <= value <= most:
                raise ConfigError(key, value, f"must be from {least:,} to {most:,}")
        for key in ("missing_value", "missing_type", "missing_time"):
            self.filling(key)
        for name, _ in self.missing_attribute:
            self.attribute_filling(name)
        for key in ("known_types", "min_value_types", "once_types"):
            _check_types(key, getattr(self, key))
        _check_weights(self.type_weight)
        if self.min_value_types and self.min_value is None:
            raise ConfigError("min_value_types", self.min_value_types, "needs min_value")
        self._check_times()

    def _check_times(self) -> None:
        earliest = self.earliest
        if earliest is None or self.latest_time in {"", NOW}:
            self.latest(0.0)
        elif parse_time("latest_time", self.latest_time) < earliest:
            raise ConfigError("latest_time", self.latest_time, "must not be before the earliest")

    @property
    def earliest(self) -> float | None:
        """The earliest time in seconds since 1970 UTC; None without a bound."""
        return parse_time("earliest_time", self.earliest_time) if self.earliest_time else None

    def latest(self, now: float) -> float | None:
        """Give the latest time in seconds since 1970 UTC; None without a bound.

        Args:
            now: What stands for ``now``.
        """
        if self.latest_time == NOW:
            return now
        return parse_time("latest_time", self.latest_time, NOW) if self.latest_time else None

    def filling(self, key: str) -> Filling:
        """Read one of ``missing_time``, ``missing_type`` and ``missing_value``.

        Raises:
            ConfigError: It names no method that there is for the column.
        """
        text = getattr(self, key)
        method, colon, detail = text.partition(":")
        if method not in _METHODS[key] or bool(detail) != bool(colon):
            raise ConfigError(key, text, methods_rule(key))
        if method == CONSTANT and detail:
            return Filling(method, constant=_read_constant(key, text, detail))
        if method in _STATISTICS and detail in {"", USER, ITEM}:
            return Filling(method, detail or ALL)
        if method == CONSTANT or detail:
            raise ConfigError(key, text, methods_rule(key))
        return Filling(method)

    def attribute_filling(self, name: str) -> Filling:
        """Read what becomes of the missing entries of an attribute; a constant is still text.

        Raises:
            ConfigError: It names no method that there is.
        """
        text = dict(self.missing_attribute).get(name, KEEP)
        method, colon, constant = text.partition(":")
        is_constant = method == CONSTANT
        if (
            method not in _METHODS["missing_attribute"]
            or bool(colon) != is_constant
            or bool(constant.strip()) != is_constant
        ):
            raise ConfigError(f"missing_attribute.{name}", text, methods_rule("missing_attribute"))
        return Filling(method, constant=constant.strip() or None)


RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_events_per_hour", 0, 10_000_000),
    ("repeat_window", 0.0, 1e9),
    ("min_user_events", 1, 1_000_000),
    ("min_item_events", 1, 1_000_000),
    ("session_gap", 0.0, 1e9),
)
"""The least and the most of each number, both allowed."""

_MOST_WEIGHT = 1_000.0


def _read_constant(key: str, text: str, detail: str) -> float | str:
    if key == "missing_type":
        _check_types(key, (detail,))
        return detail
    if key == "missing_time":
        return parse_time(key, detail)
    try:
        value = float(detail)
    except ValueError as error:
        raise ConfigError(key, text, methods_rule(key)) from error
    if not math.isfinite(value):
        raise ConfigError(key, text, "must be finite")
    return value


def methods_rule(key: str, without: tuple[str, ...] = ()) -> str:
    """Say which methods there are for missing entries, but for some."""
    groups = "" if key == "missing_attribute" else "[:user|:item]"
    names = [
        _CONSTANTS[key]
        if method == CONSTANT
        else f"{method}{groups}"
        if method in _STATISTICS
        else method
        for method in _METHODS[key]
        if method not in without
    ]
    return f"must be one of {', '.join(names)}"


def _check_types(key: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not name.strip():
            raise ConfigError(key, name, "must be the names of event types")
    if len(set(names)) < len(names):
        raise ConfigError(key, names, "must be different event types")


def _check_weights(weights: tuple[tuple[str, float], ...]) -> None:
    _check_types("type_weight", tuple(name for name, _ in weights))
    for name, weight in weights:
        if not 0.0 < weight <= _MOST_WEIGHT:
            raise ConfigError(
                f"type_weight.{name}", weight, f"must be above 0 and at most {_MOST_WEIGHT:,.0f}"
            )
