"""What every classic recommender is, and the sparse algebra that several share."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories


class Baseline(Protocol):
    """A classic recommender. Its settings are the fields it is made with."""

    @property
    def name(self) -> str:
        """The name in the table of results."""
        ...

    @property
    def note(self) -> str:
        """What a reader of the results must know of this fit; empty if nothing."""
        ...

    def fit(self, histories: Histories, items: int) -> Self:
        """Learn from a training part and give this same recommender."""
        ...

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """Score every item for everyone in ``histories``, who need not be in the training part.

        Returns:
            float32, (people, items); above zero for what can be recommended.
        """
        ...


def settings_of(baseline: Baseline) -> dict[str, float]:
    """Give the settings of a baseline by name."""
    return {field.name: getattr(baseline, field.name) for field in fields(baseline) if field.init}  # type: ignore[arg-type] # every baseline is a dataclass, which a protocol cannot say


def interactions(histories: Histories, items: int) -> sparse.csr_matrix:
    """Build the binary matrix of who did anything with what, float32, (people, items)."""
    values = np.ones(len(histories.items), np.float32)
    matrix = sparse.csr_matrix(
        (values, histories.items.copy(), histories.offsets.copy()), (len(histories), items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def keep_largest(matrix: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """Take all but the ``count`` largest values out of each row; those equal to the last stay."""
    for start, stop in zip(matrix.indptr[:-1].tolist(), matrix.indptr[1:].tolist(), strict=True):
        if stop - start > count:
            row = matrix.data[start:stop]
            row[row < np.partition(row, len(row) - count)[-count]] = 0.0
    matrix.eliminate_zeros()
    return matrix
