"""Which events of a request are taken: the rules by which the log was cleaned, event by event.

The trainer has the same rules as expressions over columns; tests compare the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from kinrec.bundle.v1.manifest_pb2 import EventSpec

Row = tuple[int, str, "float | None"]
"""An event's item number, type and time."""


@dataclass(frozen=True, slots=True)
class EventRules:
    """The rules of one model beside immediate repeats; see the fields of EventSpec.

    Attributes:
        known_types: The types that are taken; empty for all.
        drop_missing_type: Whether events without a type are left out.
        missing_type: The type of events without one; empty if they have none.
        min_value: The least value; None for no bound.
        min_value_types: The types that ``min_value`` is for; empty for all.
        drop_missing_value: Whether events without a value are left out.
        missing_value: The value of events without one; None if they have none.
        once_types: The types of which the first event of an item is taken.
        repeat_window: Seconds after an event in which the same is left out; 0 for none.
    """

    known_types: frozenset[str] = frozenset()
    drop_missing_type: bool = False
    missing_type: str = ""
    min_value: float | None = None
    min_value_types: frozenset[str] = frozenset()
    drop_missing_value: bool = False
    missing_value: float | None = None
    once_types: frozenset[str] = frozenset()
    repeat_window: float = 0.0

    @classmethod
    def of(cls, spec: EventSpec) -> EventRules:
        """Read the rules of a manifest."""
        return cls(
            known_types=frozenset(spec.known_types),
            drop_missing_type=spec.drop_missing_type,
            missing_type=spec.missing_type,
            min_value=spec.min_value if spec.HasField("min_value") else None,
            min_value_types=frozenset(spec.min_value_types),
            drop_missing_value=spec.drop_missing_value,
            missing_value=spec.missing_value if spec.HasField("missing_value") else None,
            once_types=frozenset(spec.once_types),
            repeat_window=spec.repeat_window,
        )

    @property
    def looks_at_each(self) -> bool:
        """Whether any rule is about a single event."""
        return bool(
            self.known_types
            or self.drop_missing_type
            or self.drop_missing_value
            or self.min_value is not None
        )

    @property
    def looks_back(self) -> bool:
        """Whether any rule is about what came before."""
        return bool(self.once_types) or self.repeat_window > 0.0

    def takes(self, event_type: str, value: float | None) -> bool:
        """Whether an event of a type, which may be empty, and value is taken by itself."""
        if event_type:
            if self.known_types and event_type not in self.known_types:
                return False
        elif self.drop_missing_type:
            return False
        if value is None:
            if self.drop_missing_value:
                return False
            value = self.missing_value
        if self.min_value is None or value is None or value >= self.min_value:
            return True
        return bool(self.min_value_types) and event_type not in self.min_value_types

    def without_repeats(
        self,
        rows: Sequence[Row],
        before: Sequence[Row],
        *,
        immediate: bool = False,
        types: Container[str] | None = None,
        memory: int | None = None,
    ) -> list[int]:
        """Give the places of the events that do not repeat too soon, or at all, one that was taken.

        An event without a time, or after one without a time, does not come too soon.

        Args:
            rows: Events, oldest first.
            before: What was taken earlier, oldest first; an unknown time is None or NaN.
            immediate: Whether what has the item and type of the event taken last is left out too.
            types: The types that are told apart, every other counts as none; None for all.
            memory: How many of the events taken last are looked at; None for all.
        """
        taken = _Taken(memory)
        for item, name, time in before:
            taken.add((item, name), time)
        kept = []
        for place, (item, name, time) in enumerate(rows):
            is_told_apart = types is None or name in types
            key = (item, name if is_told_apart else "")
            if immediate and key == taken.last:
                continue
            if key in taken:
                if key[1] in self.once_types:
                    continue
                # Comparing with a time that is not known is never true.
                if time is not None and abs(time - taken.time(key)) <= self.repeat_window > 0.0:
                    continue
            taken.add(key, time)
            kept.append(place)
        return kept


class _Taken:
    """What was taken, as far back as the memory goes.

    Args:
        memory: How many events; None for all.
    """

    def __init__(self, memory: int | None) -> None:
        self._memory = math.inf if memory is None else memory
        self._count = 0
        self._places: dict[tuple[int, str], int] = {}
        self._times: dict[tuple[int, str], tuple[int, float]] = {}
        self.last: tuple[int, str] | None = None

    def add(self, key: tuple[int, str], time: float | None) -> None:
        """Take an event. One without a time leaves the last known time of its key in force."""
        self._count += 1
        self._places[key] = self._count
        if time is not None and not math.isnan(time):
            self._times[key] = (self._count, time)
        self.last = key

    def __contains__(self, key: tuple[int, str]) -> bool:
        return self._places.get(key, -math.inf) > self._count - self._memory

    def time(self, key: tuple[int, str]) -> float:
        """Give the last known time of a key; NaN if there is none."""
        place, time = self._times.get(key, (0, math.nan))
        return time if place > self._count - self._memory else math.nan
