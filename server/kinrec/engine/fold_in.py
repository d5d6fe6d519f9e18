"""From a person's row to their factors: how each kind of factorization takes in someone new.

A factorizer leaves factors for the columns of the matrix; a fold-in finds those of a row, whether
the row was there in training or not. The kinds differ in the least-squares problem they solve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Factorization
from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.events import History
    from kinrec.engine.factors import RowSpec

# On 128 factors of movielens-100k nobody was further than a cosine of .999 from the exact solution.
NON_NEGATIVE_STEPS = 60


class FoldIn(Protocol):
    """Turns a history and an interest vector into user factors.

    Attributes:
        rows: What builds the row of a person.
        item_factors: float32, (items, factors). Their inner product with a person's scores the items.
        interest_factors: float32, (2 * vector_size, factors), of the columns of the interest vector.
    """

    rows: RowSpec
    item_factors: NDArray[np.float32]
    interest_factors: NDArray[np.float32]

    def user(self, history: History, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the factors of one person, scaled to length one.

        Args:
            history: At least one event.
            vector: The interest vector, (vector_size,).

        Returns:
            float32, (factors,).
        """
        ...


class _Columns:
    """The factors of the columns, which every fold-in starts from."""

    def __init__(
        self,
        rows: RowSpec,
        item_factors: NDArray[np.float32],
        interest_factors: NDArray[np.float32],
    ) -> None:
        self.rows = rows
        self.item_factors = item_factors
        self.interest_factors = interest_factors

    def _product(self, history: History, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the person's row times the factors of the columns, (factors,)."""
        row = self.rows.row(history, vector)
        of_items = row.weights @ self.item_factors[row.items]
        return np.asarray(of_items + row.interest @ self.interest_factors)


class Projection(_Columns):
    """The row times the factors of the columns, which are orthonormal.

    This is the fold-in of latent semantic indexing (Deerwester et al., 1990).
    """

    def user(self, history: History, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """See FoldIn."""
        return _unit(self._product(history, vector))


class LeastSquares(_Columns):
    """Confidence-weighted, regularized least squares, as in implicit ALS.

    Every column should be met with 1 where the row is above zero and with 0 elsewhere, and counts by
    its confidence: ``1 + confidence * x`` for an entry x (Hu, Koren & Volinsky, "Collaborative
    Filtering for Implicit Feedback Datasets", ICDM 2008). The Gram matrix of all columns is made
    once, so that a person costs a product over the columns above zero and one solve.

    Args:
        regularization: What the squares of the factors count in the loss, above 0.
    """

    def __init__(
        self,
        rows: RowSpec,
        item_factors: NDArray[np.float32],
        interest_factors: NDArray[np.float32],
        regularization: float,
        confidence: float,
    ) -> None:
        super().__init__(rows, item_factors, interest_factors)
        self._confidence = np.float32(confidence)
        self._gram = _gram(item_factors, interest_factors)
        self._gram[np.diag_indices_from(self._gram)] += np.float32(regularization)

    def user(self, history: History, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """See FoldIn."""
        row = self.rows.row(history, vector)
        used, present = np.flatnonzero(row.weights), np.flatnonzero(row.interest)
        columns = np.concatenate(
            [self.item_factors[row.items[used]], self.interest_factors[present]]
        )
        values = np.concatenate([row.weights[used], row.interest[present]])
        extra = values * self._confidence  # (n,), what the confidence is above 1
        matrix = self._gram + (columns.T * extra) @ columns
        return _unit(np.linalg.solve(matrix, (extra + np.float32(1.0)) @ columns))


class NonNegative(_Columns):
    """Least squares with no factor below zero, as in non-negative matrix factorization.

    A fixed number of accelerated projected gradient steps on the Gram matrix of the columns (Guan
    et al., "NeNMF: An Optimal Gradient Method for Nonnegative Matrix Factorization", IEEE
    Transactions on Signal Processing 60(6), 2012).
    """

    def __init__(
        self,
        rows: RowSpec,
        item_factors: NDArray[np.float32],
        interest_factors: NDArray[np.float32],
    ) -> None:
        super().__init__(rows, item_factors, interest_factors)
        gram = _gram(item_factors, interest_factors)
        # The inverse of the gradient's Lipschitz constant is the longest step that cannot overshoot.
        greatest = np.linalg.eigvalsh(gram.astype(np.float64))[-1]
        self._rate = np.float32(1.0 / max(greatest, 1e-12))
        self._step = np.eye(len(gram), dtype=np.float32) - self._rate * gram
        self._momenta = _momenta(NON_NEGATIVE_STEPS)

    def user(self, history: History, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """See FoldIn."""
        target = self._product(history, vector) * self._rate
        factors = ahead = target  # the first step from zero; nothing in it is below zero
        for momentum in self._momenta:
            following = np.maximum(ahead @ self._step + target, np.float32(0.0))
            ahead = following + momentum * (following - factors)
            factors = following
        return _unit(factors)


def open_fold_in(
    spec: Factorization,
    rows: RowSpec,
    item_factors: NDArray[np.float32],
    interest_factors: NDArray[np.float32],
) -> FoldIn:
    """Make the fold-in that a manifest describes.

    Raises:
        BundleError: It describes none.
    """
    if spec.fold_in == Factorization.FOLD_IN_PROJECTION:
        return Projection(rows, item_factors, interest_factors)
    if spec.fold_in == Factorization.FOLD_IN_NON_NEGATIVE:
        return NonNegative(rows, item_factors, interest_factors)
    if spec.fold_in == Factorization.FOLD_IN_LEAST_SQUARES:
        return LeastSquares(
            rows, item_factors, interest_factors, spec.regularization, spec.confidence
        )
    raise BundleError("manifest.json: factorization.fold_in is none that this engine knows")


def _gram(*blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the inner products of the factors over the rows of all blocks, (factors, factors)."""
    return np.asarray(sum(block.T @ block for block in blocks), np.float32)


def _momenta(steps: int) -> list[np.float32]:
    """Give how far each step goes on in the direction of the one before, from 0 to below 1."""
    momenta, now = [], 1.0
    for _ in range(steps):
        following = (1.0 + np.sqrt(1.0 + 4.0 * now * now)) / 2.0
        momenta.append(np.float32((now - 1.0) / following))
        now = following
    return momenta


def _unit(factors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(factors / np.maximum(np.sqrt(factors @ factors), 1e-12), np.float32)
