"""EASE, a linear autoencoder with a closed solution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.linalg import lapack

from kinrec.trainer.baselines._base import interactions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

# The matrix of items by items takes 1.6 GB then, and its inverse about two minutes on one core.
MAX_ITEMS = 20_000
_BLOCK = 1_024


@dataclass(slots=True, eq=False)
class Ease:
    """Each item as a linear combination of the other items of a history.

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019. With the inverse P of
    ``X'X + l2 I`` the weights are ``-P[i, j] / P[j, j]``, and 0 for an item itself.

    Attributes:
        l2: The regularization.
        max_items: Of a larger catalogue only as many items, those with the most users, take part.
    """

    l2: float = 200.0
    max_items: int = MAX_ITEMS
    _items: NDArray[np.int64] = field(init=False, repr=False)
    _weights: NDArray[np.float32] = field(init=False, repr=False)
    _catalogue: int = field(init=False, repr=False)
    name = "EASE"

    @property
    def note(self) -> str:
        """Whether it was fitted on a part of the catalogue."""
        if len(self._items) == self._catalogue:
            return ""
        return f"only the {len(self._items):,} items with the most users of {self._catalogue:,}"

    def fit(self, histories: Histories, items: int) -> Self:
        """Invert the Gram matrix of the items, in place: float32, (items, items), once."""
        matrix = interactions(histories, items)
        users = np.asarray(matrix.sum(axis=0)).ravel()
        self._items = np.sort(np.lexsort((np.arange(items), -users))[: self.max_items])
        self._catalogue = items
        matrix = matrix[:, self._items]
        # LAPACK works in place on columns one after the other; the matrix is symmetric.
        gram = (matrix.T @ matrix).toarray(order="F")
        gram[np.diag_indices_from(gram)] += np.float32(self.l2)
        factor, failed = lapack.spotrf(gram, lower=1, clean=0, overwrite_a=1)
        if failed:
            raise ArithmeticError(f"l2 = {self.l2} is too small to invert the Gram matrix")
        inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
        _mirror(inverse)
        # The transpose is the same matrix, and its rows lie as a sparse product reads them.
        weights = inverse.T
        weights /= -np.diag(weights).copy()
        np.fill_diagonal(weights, 0.0)
        self._weights = weights
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline."""
        profiles = interactions(histories, self._catalogue)[:, self._items]
        found = np.zeros((len(histories), self._catalogue), np.float32)
        found[:, self._items] = profiles @ self._weights
        return found


def _mirror(matrix: NDArray[np.float32]) -> None:
    """Copy the lower triangle onto the upper one, without a second matrix."""
    size = len(matrix)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        own = matrix[start:stop, start:stop]
        own[:] = np.tril(own) + np.tril(own, -1).T
        matrix[start:stop, stop:] = matrix[stop:, start:stop].T
