"""From the events of a request to the numbers the model works with, as cleaning did on the log."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine._errors import InvalidFieldError
from kinrec.engine._limits import MAX_EVENTS, MAX_ID_BYTES
from kinrec.engine._types import EventReport
from kinrec.engine.rules import EventRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import EventSpec
    from kinrec.engine._types import Event
    from kinrec.engine.ids import IdMap
    from kinrec.engine.rules import Row

UNSPECIFIED_TYPE = 0
UNKNOWN_GAP = 0
GAP_BUCKETS = 32

_LONGEST_GAP = 2.0 ** (GAP_BUCKETS - 2)
_SHORT_ID = MAX_ID_BYTES // 4  # characters: even at four bytes each it is short enough


@dataclass(frozen=True, slots=True)
class History:
    """What one person did, oldest first, in the model's numbers.

    Attributes:
        items: int32, (n,).
        event_types: uint8, (n,); 0 is unspecified.
        times: float64, (n,), seconds since 1970 UTC; NaN where unknown.
    """

    items: NDArray[np.int32]
    event_types: NDArray[np.uint8]
    times: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.items)

    def then(self, later: History, limit: int) -> History:
        """Give the last ``limit`` events of this history followed by ``later``."""
        if not len(self):
            return later.last(limit)
        return History(
            np.concatenate([self.items, later.items])[-limit:],
            np.concatenate([self.event_types, later.event_types])[-limit:],
            np.concatenate([self.times, later.times])[-limit:],
        )

    def last(self, limit: int) -> History:
        """Give the last ``limit`` events."""
        if len(self) <= limit:
            return self
        return History(self.items[-limit:], self.event_types[-limit:], self.times[-limit:])

    def last_session(self, gap: float) -> History:
        """Give what came after the last pause of more than ``gap`` seconds; all if it is 0.

        An unknown time is no pause.
        """
        if not gap or not len(self):
            return self
        starts = session_starts(self.times, gap)
        first = int(starts[-1]) if len(starts) else 0
        return History(self.items[first:], self.event_types[first:], self.times[first:])

    def session_after(self, time: float, gap: float) -> tuple[History, bool]:
        """Give the last session of at least one event that came after the time of another.

        Args:
            time: Of the event before.
            gap: As of ``last_session``.

        Returns:
            Its events, and whether it began before the first of them.
        """
        if not gap:
            return self, True
        starts = session_starts(np.concatenate([[time], self.times]), gap)
        if not len(starts):
            return self, True
        first = int(starts[-1]) - 1
        return History(self.items[first:], self.event_types[first:], self.times[first:]), False


def gap_codes(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the bucket of the time since the event before, for each event of one or more histories.

    Bucket 0 is an unknown gap; bucket ``1 + floor(log2(1 + seconds))``, at most 31, any other. The
    first event of a history has an unknown gap: the caller that joins several sets it.

    Args:
        times: (n,), seconds; NaN where unknown.

    Returns:
        int64, (n,), 0 to ``GAP_BUCKETS - 1``.
    """
    # For x = m * 2**e with m in [1/2, 1) the exponent e is 1 + floor(log2(x)), and 0 for x = 1/2.
    spans = np.full(len(times), 0.5)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = times[1:] - times[:-1]
    is_known = ~np.isnan(gaps)
    np.add(1.0, np.clip(gaps, 0.0, _LONGEST_GAP), out=spans[1:], where=is_known)
    return np.asarray(np.frexp(spans)[1], np.int64)


def gap_code(gap: float) -> int:
    """Give what ``gap_codes`` gives for one gap in seconds, NaN if unknown."""
    if math.isnan(gap):
        return UNKNOWN_GAP
    return math.frexp(1.0 + min(max(gap, 0.0), _LONGEST_GAP))[1]


def session_starts(times: NDArray[np.float64], gap: float) -> NDArray[np.int64]:
    """Give the places, but for the first, of events more than ``gap`` seconds after the one before.

    Args:
        times: (n,), seconds; NaN where unknown, which starts nothing.
        gap: Seconds, above 0.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return np.flatnonzero(times[1:] - times[:-1] > gap) + 1


def check_id(field: str, value: str) -> None:
    """Raise InvalidFieldError unless ``value`` has 1 to ``MAX_ID_BYTES`` bytes of UTF-8."""
    if not value:
        raise InvalidFieldError(field, "must not be empty")
    _check_length(field, value)


def _check_length(field: str, value: str) -> None:
    # A character takes at most four bytes, so short strings need no encoding.
    if len(value) > _SHORT_ID:
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > MAX_ID_BYTES:
            raise InvalidFieldError(field, f"must have at most {MAX_ID_BYTES} bytes, has {size}")


class EventReader:
    """Checks and numbers the events of requests by the rules in a bundle's manifest."""

    def __init__(self, spec: EventSpec, items: IdMap) -> None:
        self._items = items
        self._names = ["", *(kind.name for kind in spec.event_types)]
        self._types = {kind.name: code for code, kind in enumerate(spec.event_types, start=1)}
        self._drop_repeats = spec.drop_immediate_repeats
        self._rules = EventRules.of(spec)
        self._looks_at_each = self._rules.looks_at_each
        self._looks_back = self._rules.looks_back
        self.max_history = spec.max_history
        # Whether what is taken hangs on the times of events before the last.
        self.looks_at_times = self._rules.repeat_window > 0.0

    def read(
        self, events: Sequence[Event], before: History, *, is_stored: bool = False
    ) -> tuple[History, EventReport]:
        """Number the events that come after the history ``before``.

        Args:
            events: What came, oldest first.
            before: What is known to have come before.
            is_stored: Whether ``before`` is all from the bundle. The first of the events that it holds
                too, with their times, are then repeats: a caller who sends again what a training has
                learned meanwhile is not heard twice.

        Returns:
            The usable events alone, those included that are more than the sources remember, and what
            became of each.

        Raises:
            InvalidFieldError: There are too many, or a field of one breaks its rule.
        """
        if len(events) > MAX_EVENTS:
            raise InvalidFieldError(
                "events", f"at most {MAX_EVENTS} are allowed, got {len(events)}"
            )
        if not len(events):
            return NOTHING, EventReport()
        # By column and not by event: this is done for every request, and is its dearest Python.
        item_ids, types, times, values = zip(*events, strict=True)
        _check_ids(item_ids, types)
        _check_numbers("value", values)
        _check_numbers("time", times)
        numbers = self._items.get_all(item_ids)
        unknown = numbers.count(None)
        if self._rules.missing_type:
            types = tuple(name or self._rules.missing_type for name in types)
        if self._looks_at_each:
            numbers = self._of_taken(numbers, types, values)
        numbered = zip(numbers, types, times, strict=True)
        known = [(item, name, time) for item, name, time in numbered if item is not None]
        usable = known
        if is_stored:
            usable = self._without_stored(usable, before)
        if self._looks_back:
            usable = self._rules.without_repeats(
                usable,
                self._rows(before),
                immediate=self._drop_repeats,
                types=self._types,
                memory=self.max_history,
            )
        elif self._drop_repeats:
            usable = self._without_repeats(usable, before)
        new, unknown_types = self._numbered(usable)
        used = min(len(usable), self.max_history)
        return new, EventReport(
            received=len(events),
            used=used,
            unknown_item=unknown,
            repeated=len(known) - len(usable),
            truncated=len(usable) - used,
            unknown_event_type=unknown_types,
            late=_count_late([time for _, _, time in usable], before, used),
            dropped=len(events) - unknown - len(known),
        )

    def _numbered(self, usable: list[Row]) -> tuple[History, int]:
        """Give the rows as a history, and how many of the types that count are not known."""
        if not usable:
            return NOTHING, 0
        items, names, times = zip(*usable, strict=True)
        codes = [self._types.get(name, UNSPECIFIED_TYPE) for name in names]
        new = History(
            np.array(items, np.int32), np.array(codes, np.uint8), np.array(times, np.float64)
        )
        used = slice(-self.max_history, None)
        return new, codes[used].count(UNSPECIFIED_TYPE) - names[used].count("")

    def _of_taken(
        self,
        numbers: Sequence[int | None],
        types: Sequence[str],
        values: Sequence[float | None],
    ) -> list[int | None]:
        """Give the item numbers with None in the place of those that a rule leaves out."""
        takes = self._rules.takes
        rows = zip(numbers, types, values, strict=True)
        return [number if takes(name, value) else None for number, name, value in rows]

    def _without_stored(self, rows: list[Row], stored: History) -> list[Row]:
        """Leave out the first rows as long as the stored history holds them at their times."""
        first = 0
        for item, name, time in rows:
            if time is None:
                break
            code = self._types.get(name, UNSPECIFIED_TYPE)
            same = (stored.items == item) & (stored.event_types == code) & (stored.times == time)
            if not same.any():
                break
            first += 1
        return rows[first:]

    def _without_repeats(self, rows: list[Row], before: History) -> list[Row]:
        """Leave out what has the item and the type of the row before."""
        first = (-1, UNSPECIFIED_TYPE)
        if len(before):
            first = (int(before.items[-1]), int(before.event_types[-1]))
        items = [item for item, _, _ in rows]
        if not any(map(operator.eq, items, [first[0], *items])):
            return rows
        code_of = self._types.get
        keys = [first, *((item, code_of(name, UNSPECIFIED_TYPE)) for item, name, _ in rows)]
        return [row for row, last, this in zip(rows, keys, keys[1:], strict=False) if this != last]

    def _rows(self, history: History) -> list[Row]:
        names = (self._names[code] for code in history.event_types.tolist())
        return list(zip(history.items.tolist(), names, history.times.tolist(), strict=True))


def _check_ids(item_ids: Sequence[str], types: Sequence[str]) -> None:
    if (
        "" not in item_ids
        and max(map(len, item_ids)) <= _SHORT_ID
        and max(map(len, types)) <= _SHORT_ID
    ):
        return
    for position, (item_id, event_type) in enumerate(zip(item_ids, types, strict=True)):
        check_id(f"events[{position}].item_id", item_id)
        _check_length(f"events[{position}].event_type", event_type)


def _check_numbers(field: str, column: Sequence[float | None]) -> None:
    known = [number for number in column if number is not None]
    if all(map(math.isfinite, known)):
        return
    for position, number in enumerate(column):
        if number is not None and not math.isfinite(number):
            raise InvalidFieldError(f"events[{position}].{field}", "must be finite")


def _count_late(times: Sequence[float | None], before: History, kept: int) -> int:
    """Count those of the last ``kept`` times that are before the time of the event before."""
    last = float(before.times[-1]) if len(before) else math.nan
    known = [math.nan if time is None else time for time in times]
    return sum(list(map(operator.lt, known, [last, *known]))[-kept:])


NOTHING = History(np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.float64))
