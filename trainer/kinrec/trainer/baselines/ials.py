"""Matrix factorization for implicit feedback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from kinrec.trainer.baselines._base import interactions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

SEED = 42


@dataclass(slots=True, eq=False)
class ImplicitAls:
    """Factors of users and items by alternating least squares, weighted by confidence.

    Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, in
    the library implicit. Everyone is folded in from what the query says.

    Attributes:
        factors: How many.
        regularization: Of the squared lengths of the factors.
        alpha: The confidence in an interaction; that in none is 1.
        iterations: How often users and items alternate.
    """

    factors: int = 128
    regularization: float = 1.0
    alpha: float = 10.0
    iterations: int = 15
    _model: AlternatingLeastSquares = field(init=False, repr=False)
    _items: int = field(init=False, repr=False)
    name = "iALS"
    note = ""

    def fit(self, histories: Histories, items: int) -> Self:
        """Fit the factors. The same on any number of threads: each row is solved by itself."""
        self._items = items
        with threadpool_limits(1, "blas"):
            self._model = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularization,
                alpha=self.alpha,
                iterations=self.iterations,
                random_state=SEED,
            )
            self._model.fit(interactions(histories, items), show_progress=False)
        return self

    def scores(self, histories: Histories) -> NDArray[np.float32]:
        """See Baseline. Scores below zero are none."""
        people = np.arange(len(histories))
        profiles = interactions(histories, self._items)
        factors = self._model.recalculate_user(people, profiles)
        return np.asarray(factors @ self._model.item_factors.T, np.float32)
