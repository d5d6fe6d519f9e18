"""Counts over the log that need no learning: item transitions and popularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from kinrec.engine.sources import Transitions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

MAX_FOLLOWERS = 100
# Counts as this many further transitions to nowhere, so that one event is not taken for a law.
SMOOTHING = 1.0
RECENT_SHARE = 0.2
# Of the engine's source: what ranked validation events better than shares of what came after on
# amazon-beauty, movielens-100k and retailrocket alike.
BACKWARD = 0.4
POWER = 0.5


def count_transitions(
    histories: Histories, items: int, window: int, *, backward: float = 0.0, power: float = 1.0
) -> Transitions:
    """Count which items follow each item within ``window`` events of the same person.

    An item d events later counts 1/d. The counts of an item are divided by a power of their sum plus
    a constant, and the largest 100 are kept.

    Args:
        histories: The training part.
        items: Number of items.
        window: How many events later an item still follows another.
        backward: What an item that came before counts beside one that came after: people often do
            in one order what others do in the other.
        power: 1 gives shares, as sure of what followed a rare item as of what followed a frequent
            one; less believes the frequent one more; 0 leaves the counts.
    """
    matrix = sparse.csr_matrix((items, items), dtype=np.float32)
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    for distance in range(1, window + 1):
        before, after = histories.items[:-distance], histories.items[distance:]
        counts = (users[:-distance] == users[distance:]) & (before != after)
        values = np.full(int(counts.sum()), 1.0 / distance, np.float32)
        matrix = matrix + sparse.csr_matrix(
            (values, (before[counts], after[counts])), shape=matrix.shape
        )
    if backward:
        matrix = (matrix + backward * matrix.T).tocsr()
    matrix.sort_indices()
    return _keep_largest(matrix, power)


def _keep_largest(matrix: sparse.csr_matrix, power: float) -> Transitions:
    scale = (np.asarray(matrix.sum(axis=1)).ravel() + SMOOTHING) ** power
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    kept = order[place < MAX_FOLLOWERS]
    lengths = np.minimum(np.diff(matrix.indptr), MAX_FOLLOWERS)
    return Transitions(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        matrix.indices[kept].astype(np.int32),
        (matrix.data[kept] / scale[rows[kept]]).astype(np.float32),
    )


def measure_popularity(
    histories: Histories, items: int, type_weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weigh how often each item was used, (items,): the latest fifth of the log counts twice."""
    values = type_weights[histories.event_types].astype(np.float64)
    start = np.nanquantile(histories.times, 1.0 - RECENT_SHARE)
    values[histories.times >= start] *= 2.0
    return np.bincount(histories.items, values, items).astype(np.float32)
