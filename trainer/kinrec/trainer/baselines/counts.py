"""Recommenders that count: what is popular, and what follows what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse

from kinrec.trainer.baselines._base import interactions
from kinrec.trainer.statistics import count_transitions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories


@dataclass(slots=True, eq=False)
class MostPopular:
    """The items with the most users, the same for everyone."""

    _counts: NDArray[np.float32] = field(init=False, repr=False)
    name = "popularity"
    note = ""

    def fit(self, histories: Histories, items: int) -> Self:
        """Count the users of each item."""
        matrix = interactions(histories, items)
        self._counts = np.asarray(matrix.sum(axis=0), np.float32).ravel()
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        return np.repeat(self._counts[np.newaxis], len(histories), axis=0)


@dataclass(slots=True, eq=False)
class ItemTransitions:
    """What followed the last items, later items counting more.

    Attributes:
        window: How many events later an item still counts as following another.
        events: How many of a person's last events are looked at.
    """

    window: int = 5
    events: int = 20
    _counts: sparse.csr_matrix = field(init=False, repr=False)
    name = "transitions"
    note = ""

    def fit(self, histories: Histories, items: int) -> Self:
        """Give each follower its share of what followed an item."""
        found = count_transitions(histories, items, self.window)
        self._counts = sparse.csr_matrix(
            (found.weights, found.items, found.offsets), (items, items)
        )
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline. The last event counts whole, the one before half, then a third."""
        recent = histories.last(self.events)
        from_end = np.repeat(recent.offsets[1:] - 1, recent.lengths) - np.arange(len(recent.items))
        values = (1.0 / (from_end + 1.0)).astype(np.float32)
        profiles = sparse.csr_matrix(
            (values, recent.items, recent.offsets), (len(recent), self._counts.shape[0])
        )
        return np.asarray((profiles @ self._counts).toarray(), np.float32)
