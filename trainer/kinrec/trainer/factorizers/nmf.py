"""Non-negative matrix factorization: every factor is a taste that people have more or less of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import NMF

from kinrec.trainer.factorizers._base import Factors, FoldInKind

if TYPE_CHECKING:
    from scipy import sparse

    from kinrec.trainer.config import TrainConfig


class NmfFactorizer:
    """NMF by coordinate descent from an SVD.

    Cichocki & Phan, "Fast Local Algorithms for Large Scale Nonnegative Matrix and Tensor
    Factorizations", IEICE Transactions 92-A(3), 2009; Boutsidis & Gallopoulos, "SVD based
    initialization: A head start for nonnegative matrix factorization", Pattern Recognition 41(4),
    2008.
    """

    def factorize(self, matrix: sparse.csr_matrix, factors: int, config: TrainConfig) -> Factors:
        """See Factorizer. Each factor of the columns has length one."""
        model = NMF(
            factors,
            init="nndsvda",
            solver="cd",
            tol=0.0,  # as many iterations as asked for, and no warning that there could be more
            max_iter=config.factorizer_iterations,
            random_state=config.seed,
        )
        rows = model.fit_transform(matrix)
        columns = model.components_.T  # (columns, factors)
        # A factor of the rows and one of the columns share their scale as chance has it. Where the
        # columns' is one, the rows' weigh in cosines as they do in the matrix, and the Gram matrix
        # is as even as it can be, which is what folding in is fast with.
        lengths = np.linalg.norm(columns, axis=0)
        lengths[lengths == 0.0] = 1.0
        return Factors(
            np.ascontiguousarray(columns / lengths, np.float32),
            np.asarray(rows * lengths, np.float32),
            FoldInKind.NON_NEGATIVE,
        )
