"""The histories of all known users, end to end in memory-mapped arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine.events import UNKNOWN_GAP, History, gap_codes, session_starts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Histories:
    """The histories of users 0..n-1, each oldest first.

    Attributes:
        offsets: int64, (users + 1,); the events of user u are ``offsets[u]:offsets[u + 1]``.
        items: int32, (events,).
        event_types: uint8, (events,); 0 is unspecified.
        times: float64, (events,), seconds since 1970 UTC; NaN where unknown.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    event_types: NDArray[np.uint8]
    times: NDArray[np.float64]

    def save(self, directory: Path) -> None:
        """Write one file per array."""
        arrays: tuple[NDArray[np.generic], ...] = (
            self.offsets,
            self.items,
            self.event_types,
            self.times,
        )
        for name, array in zip(HISTORY_FILES, arrays, strict=True):
            np.save(directory / name, array)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events per user, (users,)."""
        return np.diff(self.offsets)

    def user(self, number: int, limit: int | None = None) -> History:
        """Give the last ``limit`` events of one user."""
        start, stop = int(self.offsets[number]), int(self.offsets[number + 1])
        if limit is not None:
            start = max(start, stop - limit)
        return History(self.items[start:stop], self.event_types[start:stop], self.times[start:stop])

    def gaps(self) -> NDArray[np.int64]:
        """Give the gap code of every event, (events,)."""
        codes = gap_codes(self.times)
        codes[self.offsets[:-1][self.lengths > 0]] = UNKNOWN_GAP
        return codes

    def without_last(self, counts: NDArray[np.int64]) -> Histories:
        """Leave out the last ``counts[u]`` events of each user u."""
        lengths = self.lengths - counts
        position = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], self.lengths)
        keep = position < np.repeat(lengths, self.lengths)
        return Histories(
            np.concatenate([[0], np.cumsum(lengths)]),
            self.items[keep],
            self.event_types[keep],
            self.times[keep],
        )

    def last(self, limit: int) -> Histories:
        """Keep the last ``limit`` events of each user."""
        from_end = np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.items))
        keep = from_end <= limit
        return Histories(
            np.concatenate([[0], np.cumsum(np.minimum(self.lengths, limit))]),
            self.items[keep],
            self.event_types[keep],
            self.times[keep],
        )

    def sessions(self, gap: float) -> Histories:
        """Give every session as a history of its own; all as they are if ``gap`` is 0.

        Args:
            gap: Seconds without an event after which a session starts.
        """
        if not gap:
            return self
        offsets = np.union1d(self.offsets, session_starts(self.times, gap))
        return Histories(offsets, self.items, self.event_types, self.times)

    def last_sessions(self, gap: float) -> Histories:
        """Keep the last session of each user; all if ``gap`` is 0."""
        if not gap:
            return self
        starts = self.sessions(gap).offsets
        # The start of the session that holds each user's last event; users without any have none.
        last = starts[np.searchsorted(starts, self.offsets[1:], side="left") - 1]
        counts = np.where(self.lengths > 0, self.offsets[1:] - last, 0)
        from_end = np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.items))
        keep = from_end <= np.repeat(counts, self.lengths)
        return Histories(
            np.concatenate([[0], np.cumsum(counts)]),
            self.items[keep],
            self.event_types[keep],
            self.times[keep],
        )


HISTORY_FILES = (
    "history_offsets.npy",
    "history_items.npy",
    "history_event_types.npy",
    "history_times.npy",
)
