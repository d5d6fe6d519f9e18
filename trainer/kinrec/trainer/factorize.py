"""Factorizes the interactions and the encoder's vectors together.

The matrix ``[R | alpha * relu(H) | alpha * relu(-H)]`` has a row per user: the weighted items of the
history, and the interest vector split by sign so that all is non-negative and one matrix serves
every factorizer. The factors of the users are those that the engine folds them in with, so that
known users and people of a request live in one space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from kinrec.bundle.v1.manifest_pb2 import Factorization
from kinrec.engine.factors import RowSpec, event_weights, split_by_sign
from kinrec.engine.fold_in import open_fold_in
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.factorizers import FACTORIZERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.fold_in import FoldIn
    from kinrec.engine.histories import Histories
    from kinrec.trainer.config import TrainConfig
    from kinrec.trainer.factorizers import Factors


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
    return unit_rows(rows)


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Give each row the length one; rows of zeros stay."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = (1.0 / np.maximum(norms, 1e-12)).astype(np.float32)
    return sparse.diags(scale, format="csr", dtype=np.float32) @ matrix


def factorize(
    histories: Histories,
    vectors: NDArray[np.float32],
    items: int,
    type_weights: NDArray[np.float32],
    config: TrainConfig,
) -> tuple[FoldIn, NDArray[np.float32], Factorization]:
    """Factorize the log and the interest vectors.

    Args:
        histories: The training part.
        vectors: float32, (users, vector_size), from the exported encoder; zero without events.
        items: Number of items.
        type_weights: By code.
        config: Uses factorizer, factors, alpha, half_life, seed and what the factorizer reads.

    Returns:
        What folds in anyone; the factors of the users, float32, (users, factors), of length one, or
        zero without events; and what the manifest says of the factorization.

    Raises:
        ConfigError: The factorizer gave what cannot be served.
    """
    rows = RowSpec(item_weights(histories, items), type_weights, config.alpha, config.half_life)
    interactions = interaction_rows(histories, rows.item_weights, type_weights, config.half_life)
    interest = split_by_sign(vectors) * np.float32(config.alpha)
    matrix = sparse.hstack([interactions, sparse.csr_matrix(interest)], format="csr", dtype="f4")
    matrix.eliminate_zeros()
    wanted = min(config.factors, min(matrix.shape) - 1)
    found = FACTORIZERS.load(config.factorizer)().factorize(matrix, wanted, config)
    problem = _problem(found, matrix.shape)
    if problem is not None:
        raise ConfigError("factorizer", config.factorizer, problem)
    spec = Factorization(
        method=config.factorizer,
        factors=found.columns.shape[1],
        alpha=config.alpha,
        half_life=config.half_life,
        fold_in=Factorization.FoldIn.Value(found.fold_in.value),
        regularization=found.regularization,
        confidence=found.confidence,
    )
    fold_in = open_fold_in(spec, rows, found.columns[:items], found.columns[items:])
    factors = _fold_all_in(fold_in, histories, vectors, spec.factors)
    spec.agreement = _agreement(found.rows, factors)
    return fold_in, factors, spec


def _problem(found: Factors, shape: tuple[int, int]) -> str | None:
    """Say why the factors that another package's factorizer gave could not be served; else None."""
    for name, array, count in zip(
        ("rows", "columns"), (found.rows, found.columns), shape, strict=True
    ):
        if array.dtype != np.float32 or array.ndim != 2 or len(array) != count:
            return f"gave {name} of {array.dtype} {array.shape}, not float32 ({count}, n)"
        if not np.isfinite(array).all():
            return f"gave {name} that are not finite"
    if found.rows.shape[1] != found.columns.shape[1]:
        return f"gave {found.rows.shape[1]} factors of rows and {found.columns.shape[1]} of columns"
    return None


def _fold_all_in(
    fold_in: FoldIn, histories: Histories, vectors: NDArray[np.float32], factors: int
) -> NDArray[np.float32]:
    folded = np.zeros((len(histories), factors), np.float32)
    for user in np.flatnonzero(histories.lengths).tolist():
        folded[user] = fold_in.user(histories.user(user), vectors[user])
    return folded


def _agreement(trained: NDArray[np.float32], folded: NDArray[np.float32]) -> float:
    """Give the median cosine between two sets of factors, rounded; rows of zeros do not count."""
    lengths = np.linalg.norm(trained, axis=1) * np.linalg.norm(folded, axis=1)
    active = lengths > 0.0
    products = np.einsum("ij,ij->i", trained[active], folded[active])
    return round(float(np.median(products / lengths[active])), 4) if active.any() else 0.0
