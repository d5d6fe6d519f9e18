"""Factorizes the interactions and the encoder's vectors together.

The matrix ``[R | alpha * relu(H) | alpha * relu(-H)]`` has a row per user: the weighted items of the
history, and the interest vector split by sign so that all is non-negative. A randomized truncated SVD
(Halko, Martinsson & Tropp, "Finding Structure with Randomness", 2011) gives its right singular
vectors, which the engine projects rows on; see kinrec.engine.factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from kinrec.engine.factors import FoldIn, event_weights, split_by_sign

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories
    from kinrec.trainer.config import TrainConfig


def item_weights(histories: Histories, items: int) -> NDArray[np.float32]:
    """Give each item the logarithm of its inverse frequency among users, (items,)."""
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    pairs = np.unique(users * items + histories.items)
    frequency = np.bincount(pairs % items, minlength=items)
    return np.log1p(len(histories) / np.maximum(frequency, 1)).astype(np.float32)


def interaction_rows(
    histories: Histories,
    weights: NDArray[np.float32],
    type_weights: NDArray[np.float32],
    half_life: float,
) -> sparse.csr_matrix:
    """Build R, (users, items): weighted interactions, each row of length one."""
    from_end = np.repeat(histories.offsets[1:] - 1, histories.lengths) - np.arange(
        len(histories.items)
    )
    values = event_weights(from_end, histories.event_types, type_weights, half_life)
    rows = sparse.csr_matrix(
        (values * weights[histories.items], histories.items.copy(), histories.offsets.copy()),
        shape=(len(histories), len(weights)),
    )
    rows.sum_duplicates()
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    scale = (1.0 / np.maximum(norms, 1e-12)).astype(np.float32)
    return sparse.diags(scale, format="csr", dtype=np.float32) @ rows


def factorize_svd(
    histories: Histories,
    vectors: NDArray[np.float32],
    items: int,
    type_weights: NDArray[np.float32],
    config: TrainConfig,
) -> tuple[FoldIn, NDArray[np.float32]]:
    """Factorize the log and the interest vectors.

    Args:
        histories: The training part.
        vectors: float32, (users, vector_size), from the exported encoder; zero without events.
        items: Number of items.
        type_weights: By code.
        config: Uses factors, alpha, half_life and seed.

    Returns:
        What folds in anyone, and the factors of the users, float32, (users, factors), of length one.
    """
    weights = item_weights(histories, items)
    rows = interaction_rows(histories, weights, type_weights, config.half_life)
    interest = split_by_sign(vectors) * np.float32(config.alpha)
    matrix = sparse.hstack([rows, sparse.csr_matrix(interest)], format="csr", dtype=np.float32)
    factors = min(config.factors, min(matrix.shape) - 1)
    _, _, right = randomized_svd(matrix, factors, n_iter=4, random_state=config.seed)
    right = np.ascontiguousarray(right.T, np.float32)  # (items + 2 * vector_size, factors)
    projected = np.asarray(matrix @ right, np.float32)
    norms = np.linalg.norm(projected, axis=1, keepdims=True)
    fold_in = FoldIn(
        right[:items], right[items:], weights, type_weights, config.alpha, config.half_life
    )
    return fold_in, projected / np.maximum(norms, np.float32(1e-12))
