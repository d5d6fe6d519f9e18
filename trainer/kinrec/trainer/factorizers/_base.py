"""What a factorizer is: the part that gives the rows and columns of one matrix their factors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse

    from kinrec.trainer.config import TrainConfig


class FoldInKind(Enum):
    """How the engine finds the factors of a row, by the manifest's name; see kinrec.engine.fold_in."""

    PROJECTION = "FOLD_IN_PROJECTION"
    LEAST_SQUARES = "FOLD_IN_LEAST_SQUARES"
    NON_NEGATIVE = "FOLD_IN_NON_NEGATIVE"


@dataclass(frozen=True, slots=True)
class Factors:
    """What a factorizer finds.

    Attributes:
        columns: float32, (columns, factors), finite. The engine serves from them.
        rows: float32, (rows, factors), of any lengths: compared with what the fold-in gives.
        fold_in: How the engine finds the factors of a row.
        regularization: See ``kinrec.engine.fold_in.LeastSquares``, the only kind that reads it.
        confidence: Likewise.
    """

    columns: NDArray[np.float32]
    rows: NDArray[np.float32]
    fold_in: FoldInKind
    regularization: float = 0.0
    confidence: float = 0.0


class Factorizer(Protocol):
    """Factorizes a non-negative matrix. Made without arguments; keeps nothing between calls."""

    def factorize(self, matrix: sparse.csr_matrix, factors: int, config: TrainConfig) -> Factors:
        """Factorize a matrix; the same arguments give the same bytes.

        Args:
            matrix: float32, (users, items + 2 * vector_size), no entry below zero and no zero
                stored. A user without events has an empty row, an item of nobody an empty column.
            factors: How many, at least 1 and less than the matrix has rows and columns.
            config: The configuration, for the settings that the method knows and the seed.
        """
        ...
