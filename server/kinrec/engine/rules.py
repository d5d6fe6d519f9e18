"""Which events of a request are taken: the rules by which the log was cleaned, event by event.

The trainer has the same rules as expressions over columns; tests compare the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

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
        self, rows: Sequence[Row], before: Iterable[Row], types: Container[str] | None = None
    ) -> list[Row]:
        """Leave out what repeats too soon, or at all, an event that was taken.

        An event without a time, or after one without a time, does not come too soon.

        Args:
            rows: Events, oldest first.
            before: What was taken earlier, oldest first; an unknown time is None or NaN.
            types: The types that are told apart, every other counts as none; None for all.
        """
        taken: dict[tuple[int, str], float] = {}
        for item, name, time in before:
            if time is None or math.isnan(time):
                taken.setdefault((item, name), math.nan)  # the last known time goes on to count
            else:
                taken[item, name] = time
        kept = []
        for row in rows:
            item, name, time = row
            if types is not None and name not in types:
                name = ""
            key = (item, name)
            if key in taken:
                if name in self.once_types:
                    continue
                if time is None:
                    kept.append(row)  # the last known time goes on to count
                    continue
                if self.repeat_window and abs(time - taken[key]) <= self.repeat_window:
                    continue
            taken[key] = math.nan if time is None else time
            kept.append(row)
        return kept
