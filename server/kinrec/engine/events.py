"""From the events of a request to the numbers the model works with, as cleaning did on the log."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine._errors import InvalidFieldError
from kinrec.engine._limits import MAX_EVENTS, MAX_ID_BYTES
from kinrec.engine._types import EventReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import EventSpec
    from kinrec.engine._types import Event
    from kinrec.engine.ids import IdMap

UNSPECIFIED_TYPE = 0
UNKNOWN_GAP = 0
GAP_BUCKETS = 32


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
            return later
        return History(
            np.concatenate([self.items, later.items])[-limit:],
            np.concatenate([self.event_types, later.event_types])[-limit:],
            np.concatenate([self.times, later.times])[-limit:],
        )


def gap_codes(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the bucket of the time since the event before, for each event of one or more histories.

    Bucket 0 is an unknown gap; bucket ``1 + floor(log2(1 + seconds))``, at most 31, any other. The
    first event of a history has an unknown gap: the caller that joins several sets it.

    Args:
        times: (n,), seconds; NaN where unknown.

    Returns:
        int64, (n,), 0 to ``GAP_BUCKETS - 1``.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.diff(times, prepend=np.nan)
        codes = 1.0 + np.floor(np.log2(1.0 + np.maximum(gaps, 0.0)))
    codes = np.minimum(codes, GAP_BUCKETS - 1)
    return np.where(np.isnan(codes), UNKNOWN_GAP, codes).astype(np.int64)


def check_id(field: str, value: str) -> None:
    """Raise InvalidFieldError unless ``value`` has 1 to ``MAX_ID_BYTES`` bytes of UTF-8."""
    if not value:
        raise InvalidFieldError(field, "must not be empty")
    _check_length(field, value)


def _check_length(field: str, value: str) -> None:
    # A character takes at most four bytes, so short strings need no encoding.
    if len(value) * 4 > MAX_ID_BYTES:
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > MAX_ID_BYTES:
            raise InvalidFieldError(field, f"must have at most {MAX_ID_BYTES} bytes, has {size}")


class EventReader:
    """Checks and numbers the events of requests by the rules in a bundle's manifest."""

    def __init__(self, spec: EventSpec, items: IdMap) -> None:
        self._items = items
        self._types = {kind.name: code for code, kind in enumerate(spec.event_types, start=1)}
        self._drop_repeats = spec.drop_immediate_repeats
        self.max_history = spec.max_history

    def read(self, events: Sequence[Event], before: History) -> tuple[History, EventReport]:
        """Number the events that come after the history ``before``.

        Returns:
            The usable events alone, and what became of each.

        Raises:
            InvalidFieldError: There are too many, or a field of one breaks its rule.
        """
        if len(events) > MAX_EVENTS:
            raise InvalidFieldError(
                "events", f"at most {MAX_EVENTS} are allowed, got {len(events)}"
            )
        items: list[int] = []
        types: list[int] = []
        times: list[float] = []
        unknown_types: list[bool] = []
        unknown_item = repeated = 0
        last = (int(before.items[-1]), int(before.event_types[-1]), "") if len(before) else None
        get_item, get_type = self._items.get, self._types.get
        for position, (item_id, event_type, time, value) in enumerate(events):
            if not item_id or len(item_id) > 128 or len(event_type) > 128:
                check_id(f"events[{position}].item_id", item_id)
                _check_length(f"events[{position}].event_type", event_type)
            if value is not None and not math.isfinite(value):
                raise InvalidFieldError(f"events[{position}].value", "must be finite")
            if time is not None and not math.isfinite(time):
                raise InvalidFieldError(f"events[{position}].time", "must be finite")
            item = get_item(item_id)
            if item is None:
                unknown_item += 1
                continue
            code = get_type(event_type, UNSPECIFIED_TYPE)
            # Types that the model does not know share a code but are not the same.
            this = (item, code, event_type if code == UNSPECIFIED_TYPE else "")
            if self._drop_repeats and last == this:
                repeated += 1
                continue
            last = this
            items.append(item)
            types.append(code)
            unknown_types.append(code == UNSPECIFIED_TYPE and bool(event_type))
            times.append(math.nan if time is None else time)
        kept = History(
            np.array(items[-self.max_history :], np.int32),
            np.array(types[-self.max_history :], np.uint8),
            np.array(times[-self.max_history :], np.float64),
        )
        return kept, EventReport(
            received=len(events),
            used=len(kept),
            unknown_item=unknown_item,
            repeated=repeated,
            truncated=len(items) - len(kept),
            unknown_event_type=sum(unknown_types[-self.max_history :]),
            late=_count_late(times, before, len(kept)),
        )


def _count_late(times: Sequence[float], before: History, kept: int) -> int:
    """Count those of the last ``kept`` times that are before the time of the event before."""
    last = float(before.times[-1]) if len(before) else math.nan
    later = itertools.pairwise([last, *times])
    return sum(time < earlier for earlier, time in list(later)[len(times) - kept :])
