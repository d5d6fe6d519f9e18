"""Truncated SVD: the factors that leave the least squared error, and a plain projection to fold in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils.extmath import randomized_svd

from kinrec.trainer.factorizers._base import Factors, FoldInKind

if TYPE_CHECKING:
    from scipy import sparse

    from kinrec.trainer.config import TrainConfig

_POWER_ITERATIONS = 4


class SvdFactorizer:
    """A randomized truncated SVD.

    Halko, Martinsson & Tropp, "Finding Structure with Randomness: Probabilistic Algorithms for
    Constructing Approximate Matrix Decompositions", SIAM Review 53(2), 2011.
    """

    def factorize(self, matrix: sparse.csr_matrix, factors: int, config: TrainConfig) -> Factors:
        """See Factorizer. The columns' factors are the right singular vectors."""
        left, values, right = randomized_svd(
            matrix, factors, n_iter=_POWER_ITERATIONS, random_state=config.seed
        )
        return Factors(
            np.ascontiguousarray(right.T, np.float32),
            np.asarray(left * values, np.float32),
            FoldInKind.PROJECTION,
        )
