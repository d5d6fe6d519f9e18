"""Alternating least squares for implicit feedback: zeros count too, but less than what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from kinrec.trainer.factorizers._base import Factors, FoldInKind

if TYPE_CHECKING:
    from scipy import sparse

    from kinrec.trainer.config import TrainConfig

# What Hu et al. found to do well.
CONFIDENCE = 40.0


class AlsFactorizer:
    """Implicit ALS with the confidence ``1 + CONFIDENCE * x`` for an entry x.

    Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, solved
    by conjugate gradients (Takacs, Pilaszy & Tikk, "Applications of the Conjugate Gradient Method
    for Implicit Feedback Collaborative Filtering", RecSys 2011).
    """

    def factorize(self, matrix: sparse.csr_matrix, factors: int, config: TrainConfig) -> Factors:
        """See Factorizer."""
        confidences = matrix.copy()
        confidences.data = np.float32(1.0) + np.float32(CONFIDENCE) * confidences.data
        # The threads of BLAS only get into the way of the small systems that it is asked to solve.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=factors,
                regularization=config.regularization,
                iterations=config.factorizer_iterations,
                num_threads=1,
                random_state=config.seed,
            )
            model.fit(confidences, show_progress=False)
        return Factors(
            model.item_factors,
            model.user_factors,
            FoldInKind.LEAST_SQUARES,
            regularization=config.regularization,
            confidence=CONFIDENCE,
        )
