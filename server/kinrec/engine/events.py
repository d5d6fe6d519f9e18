"""From the events of a request to the numbers the model works with, as cleaning did on the log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine._errors import InvalidFieldError
from kinrec.engine._limits import MAX_EVENTS, MAX_ID_BYTES
from kinrec.engine._types import EventReport, EventTable
from kinrec.engine.rules import EventRules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


# Not frozen: several are made for each call, and freezing takes as long again.
@dataclass(slots=True)
class History:
    """What one person did, oldest first, in the model's numbers. Not to be changed.

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
        if not len(self.items):
            return later.last(limit)
        return History(
            np.concatenate((self.items, later.items)),
            np.concatenate((self.event_types, later.event_types)),
            np.concatenate((self.times, later.times)),
        ).last(limit)

    def last(self, limit: int) -> History:
        """Give the last ``limit`` events."""
        if len(self.items) <= limit:
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
    spans = np.empty(len(times))
    spans[:1] = 0.5
    gaps = spans[1:]
    with np.errstate(invalid="ignore", over="ignore"):
        np.subtract(times[1:], times[:-1], out=gaps)
    np.maximum(gaps, 0.0, out=gaps)  # what is not a number stays so
    np.minimum(gaps, _LONGEST_GAP, out=gaps)
    gaps += 1.0
    gaps[np.isnan(gaps)] = 0.5
    return np.frexp(spans)[1].astype(np.int64)


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


def are_short(ids: Sequence[str]) -> bool:
    """Whether all of at least one id are short enough, and none is empty, at a glance."""
    return "" not in ids and max(map(len, ids)) <= _SHORT_ID


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


class _Numbered(NamedTuple):
    """Events in the model's numbers, with what a history does not hold.

    Attributes:
        items: int32, (n,).
        codes: uint8, (n,), of the event types.
        times: float64, (n,), NaN where unknown.
        is_odd: bool, (n,), whether the type is one that the model does not know; None if none is.
    """

    items: NDArray[np.int32]
    codes: NDArray[np.uint8]
    times: NDArray[np.float64]
    is_odd: NDArray[np.bool_] | None

    def of(self, places: slice | list[int] | NDArray[np.bool_]) -> _Numbered:
        """Give some of the events."""
        items, codes, times, is_odd = self
        odd = None if is_odd is None else is_odd[places]
        return _Numbered(items[places], codes[places], times[places], odd)


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
        self.session_gap = spec.session_gap  # of the manifest, which takes longer to ask
        # Whether what is taken hangs on the times of events before the last.
        self.looks_at_times = self._rules.repeat_window > 0.0

    def read(
        self, events: Sequence[Event], before: History, *, is_stored: bool = False
    ) -> tuple[History, EventReport]:
        """Number the events that come after the history ``before``.

        Args:
            events: What came, oldest first.
            before: What is known to have come before.
            is_stored: Whether ``before`` is all from the bundle. The events that it holds too, with
                their times, are then repeats, and so is what cleaning left out as a repeat of one: a
                caller who sends again what a training has learned meanwhile is not heard twice.

        Returns:
            The usable events alone, those included that are more than the sources remember, and what
            became of each.

        Raises:
            InvalidFieldError: There are too many, or a field of one breaks its rule.
        """
        received = len(events)
        if received > MAX_EVENTS:
            raise InvalidFieldError("events", f"at most {MAX_EVENTS} are allowed, got {received}")
        if not received:
            return NOTHING, EventReport()
        # By column and not by event: this is done for every request, and is its dearest Python.
        table = EventTable.of(events)
        types: Sequence[str] = table.event_types
        numbers = self._items.get_all(table.item_ids)
        unknown = numbers.count(None)
        if unknown or types.count("") < received:  # known ids keep the rules
            _check_ids(table.item_ids, types)
        _check_numbers("value", table.values)
        _check_numbers("time", table.times)
        if self._rules.missing_type:
            types = [name or self._rules.missing_type for name in types]
        taken = unknown
        if self._looks_at_each:
            numbers = self._of_taken(numbers, types, table.values)
            taken = numbers.count(None)
        times = table.times
        if taken:
            is_known = [number is not None for number in numbers]
            numbers = list(compress(numbers, is_known))
            types = list(compress(types, is_known))
            times = list(compress(times, is_known))
        known = usable = self._numbered(numbers, types, times)
        if is_stored:
            usable = self._without_stored(usable, before)
        if self._looks_back:
            usable = usable.of(self._places_taken(usable, before))
        elif self._drop_repeats:
            usable = self._without_repeats(usable, before)
        items, codes, event_times, is_odd = usable
        found, left = len(known.items), len(items)
        used = min(left, self.max_history)
        return History(items, codes, event_times), EventReport(
            received,
            used,
            unknown,
            repeated=found - left,
            truncated=left - used,
            unknown_event_type=0
            if is_odd is None
            else int(np.count_nonzero(is_odd[left - used :])),
            late=_count_late(event_times, before, used),
            dropped=received - unknown - found,
        )

    def _numbered(
        self,
        numbers: Sequence[int | None],
        types: Sequence[str],
        times: Sequence[float | None],
    ) -> _Numbered:
        """Put events of known items into arrays."""
        codes, is_odd = np.zeros(len(numbers), np.uint8), None
        if any(types):
            found = [self._types.get(name, UNSPECIFIED_TYPE) for name in types]
            codes[:] = found
            if UNSPECIFIED_TYPE in found:
                is_odd = np.array(
                    [
                        code == UNSPECIFIED_TYPE and name != ""
                        for code, name in zip(found, types, strict=True)
                    ]
                )
        return _Numbered(np.array(numbers, np.int32), codes, np.array(times, np.float64), is_odd)

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

    def _without_stored(self, events: _Numbered, stored: History) -> _Numbered:
        """Leave out what the stored history holds at the same time, and repeats of it."""
        times = events.times[~np.isnan(events.times)]
        if not (len(times) and len(stored)) or times.min() > stored.times[-1]:
            return events  # as is usual: all came since
        places = {
            row: place
            for place, row in enumerate(_keys(stored.items, stored.event_types, stored.times))
        }
        found = [places.get(row) for row in _keys(events.items, events.codes, events.times)]
        held = [place for place in found if place is not None]
        if not held:
            return events
        # As cleaning saw them: after what was taken before the first of them.
        earlier = slice(min(held))
        before = History(stored.items[earlier], stored.event_types[earlier], stored.times[earlier])
        taken = self._places_taken(events, before)
        return events.of([place for place in taken if found[place] is None])

    def _places_taken(self, events: _Numbered, before: History) -> list[int]:
        """Give the places of the events that no rule on repeats leaves out."""
        return self._rules.without_repeats(
            self._rows(events.items, events.codes, events.times),
            self._rows(before.items, before.event_types, before.times),
            immediate=self._drop_repeats,
            types=self._types,
            memory=self.max_history,
        )

    def _without_repeats(self, events: _Numbered, before: History) -> _Numbered:
        """Leave out what has the item and the type of the event before."""
        items, codes = events.items, events.codes
        if not len(items):
            return events
        first = bool(
            len(before) and items[0] == before.items[-1] and codes[0] == before.event_types[-1]
        )
        if len(items) == 1 and not first:  # the usual event after a state
            return events
        repeats = items[1:] == items[:-1]
        if not first and not np.count_nonzero(repeats):
            return events
        repeats &= codes[1:] == codes[:-1]
        return events.of(np.concatenate([[not first], ~repeats]))

    def _rows(
        self, items: NDArray[np.int32], codes: NDArray[np.uint8], times: NDArray[np.float64]
    ) -> list[Row]:
        names = (self._names[code] for code in codes.tolist())
        return list(zip(items.tolist(), names, times.tolist(), strict=True))


def _keys(
    items: NDArray[np.int32], codes: NDArray[np.uint8], times: NDArray[np.float64]
) -> Iterator[tuple[int, int, float]]:
    """Give what tells each event from the others; of an unknown time nothing equals it."""
    return zip(items.tolist(), codes.tolist(), times.tolist(), strict=True)


def _check_ids(item_ids: Sequence[str], types: Sequence[str]) -> None:
    if are_short(item_ids) and max(map(len, types)) <= _SHORT_ID:
        return
    for position, (item_id, event_type) in enumerate(zip(item_ids, types, strict=True)):
        check_id(f"events[{position}].item_id", item_id)
        _check_length(f"events[{position}].event_type", event_type)


def _check_numbers(field: str, column: Sequence[float | None]) -> None:
    if column[0] is None and column.count(None) == len(column):
        return
    try:
        total: float = sum(column)  # type: ignore[arg-type]
    except TypeError:  # some are None
        total = sum([number for number in column if number is not None])
    if math.isfinite(total):  # then each is
        return
    for position, number in enumerate(column):
        if number is not None and not math.isfinite(number):
            raise InvalidFieldError(f"events[{position}].{field}", "must be finite")


def _count_late(times: NDArray[np.float64], before: History, kept: int) -> int:
    """Count those of the last ``kept`` times that are before the time of the event before."""
    late, count = 0, len(times)
    if count > 1:
        first = max(count - kept, 1)  # of those that are counted
        late = int(np.count_nonzero(times[first:] < times[first - 1 : -1]))
    if kept == count > 0 and len(before.times):
        late += bool(times[0] < before.times[-1])
    return late


NOTHING = History(np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.float64))
