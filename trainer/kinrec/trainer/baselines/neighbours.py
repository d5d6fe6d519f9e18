"""Collaborative filtering by neighbours, on the matrix of who did anything with what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy import sparse

from kinrec.trainer.baselines._base import interactions, keep_largest
from kinrec.trainer.factorize import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

_BLOCK = 1_000


@dataclass(slots=True, eq=False)
class ItemKnn:
    """Item-based collaborative filtering: the cosine of items to those of the history.

    Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001.

    Attributes:
        neighbours: How many similar items of each item count.
    """

    neighbours: int = 200
    _similarities: sparse.csr_matrix = field(init=False, repr=False)
    name = "item-kNN"
    note = ""

    def fit(self, histories: Histories, items: int) -> Self:
        """Find the most similar items of each item by cosine."""
        columns = unit_rows(interactions(histories, items).T.tocsr())
        blocks = []
        for start in range(0, items, _BLOCK):
            block = columns[start : start + _BLOCK] @ columns.T
            rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            block.data[block.indices == start + rows] = 0.0
            blocks.append(keep_largest(block, self.neighbours))
        self._similarities = sparse.vstack(blocks, format="csr")
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        profiles = interactions(histories, self._similarities.shape[0])
        return np.asarray((profiles @ self._similarities).toarray(), np.float32)


@dataclass(slots=True, eq=False)
class UserKnn:
    """User-based collaborative filtering: what the most similar users did, by cosine.

    Resnick et al., "GroupLens: An Open Architecture for Collaborative Filtering of Netnews", 1994.

    Attributes:
        neighbours: How many similar users count.
    """

    neighbours: int = 100
    _matrix: sparse.csr_matrix = field(init=False, repr=False)
    _unit: sparse.csr_matrix = field(init=False, repr=False)
    name = "user-kNN"
    note = ""

    def fit(self, histories: Histories, items: int) -> Self:
        """Keep the interactions, and their rows of length one."""
        self._matrix = interactions(histories, items)
        self._unit = unit_rows(self._matrix).T.tocsr()
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        profiles = unit_rows(interactions(histories, self._matrix.shape[1]))
        neighbours = keep_largest(profiles @ self._unit, self.neighbours)
        return np.asarray((neighbours @ self._matrix).toarray(), np.float32)
