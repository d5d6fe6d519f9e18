"""Neighbours among sessions, where the order and recency of events count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse

from kinrec.engine.sources import ranges
from kinrec.trainer.baselines._base import interactions, keep_largest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

# People, sessions, and the decay and the match weight of the item they share.
_Shared = tuple[
    "NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.float64]", "NDArray[np.float64]"
]

# The weight of a match falls by a tenth with each event since, so older events carry none.
LAST_EVENTS = 10


@dataclass(slots=True, eq=False)
class SessionKnn:
    """VMIS-kNN: what was done in the sessions that share the last items, the latest ones first.

    Kersbergen, Sprangers & Schelter, "Serenade - Low-Latency Session-Based Recommendation in
    e-Commerce at Scale", SIGMOD 2022. A person's history is its session. A session is as similar as
    the items it shares with the person's last ten are recent, among the ``sessions`` latest of each
    item; a neighbour weighs its similarity times how recent its latest match is, and an item the
    logarithm of its inverse frequency.

    Attributes:
        sessions: How many of the latest sessions of each item are looked at.
        neighbours: How many of the most similar sessions count.
    """

    sessions: int = 500
    neighbours: int = 100
    _latest: sparse.csr_matrix = field(init=False, repr=False)
    _matrix: sparse.csr_matrix = field(init=False, repr=False)
    name = "session-kNN"
    note = ""

    def fit(self, histories: Histories, items: int) -> Self:
        """List the latest sessions of each item."""
        matrix = interactions(histories, items)
        columns = matrix.T.tocsr()  # (items, sessions)
        ends = np.full(len(histories), -np.inf)
        active = histories.lengths > 0
        ends[active] = histories.times[histories.offsets[1:][active] - 1]
        rows = np.repeat(np.arange(items), np.diff(columns.indptr))
        order = np.lexsort((columns.indices, -ends[columns.indices], rows))
        place = np.arange(len(order)) - columns.indptr[rows]
        kept = order[place < self.sessions]
        self._latest = sparse.csr_matrix(
            (np.ones(len(kept), np.float32), (rows[kept], columns.indices[kept])), columns.shape
        )
        users = np.maximum(np.diff(columns.indptr), 1)
        frequency = np.log(max(len(histories), 2) / users).astype(np.float32)
        self._matrix = matrix @ sparse.diags(frequency, format="csr", dtype=np.float32)
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        people, sessions, decays, matches = (
            np.concatenate(parts)
            for parts in zip(*self._shared(histories.last(LAST_EVENTS)), strict=True)
        )
        # A session that shares several items comes several times, first by its latest match.
        width = self._latest.shape[1]
        keys, first, places = np.unique(
            people * width + sessions, return_index=True, return_inverse=True
        )
        shape = (len(histories), width)
        pairs = (keys // width, keys % width)
        similarities = sparse.csr_matrix(
            (np.bincount(places, decays).astype(np.float32), pairs), shape
        )
        match = sparse.csr_matrix((matches[first].astype(np.float32), pairs), shape)
        neighbours = keep_largest(similarities, self.neighbours).multiply(match).tocsr()
        return np.asarray((neighbours @ self._matrix).toarray(), np.float32)

    def _shared(self, recent: Histories) -> Iterator[_Shared]:
        """Give the sessions that share the last event's item, then those of the one before."""
        for back in range(LAST_EVENTS):
            people = np.flatnonzero(recent.lengths > back)
            places = recent.offsets[people + 1] - 1 - back
            # A history may hold an item twice: its later event is the one that counts.
            is_new = np.ones(len(people), np.bool_)
            for later in range(1, back + 1):
                is_new &= recent.items[places + later] != recent.items[places]
            people, items = people[is_new], recent.items[places[is_new]]
            starts = self._latest.indptr[items].astype(np.int64)
            counts = self._latest.indptr[items + 1] - starts
            rows = np.repeat(people, counts)
            sessions = self._latest.indices[ranges(starts, counts)].astype(np.int64)
            yield (
                rows,
                sessions,
                1.0 - back / recent.lengths[rows],
                np.full(len(rows), 1.0 - 0.1 * back),
            )
