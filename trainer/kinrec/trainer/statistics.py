"""Counts over the log that need no learning: transitions, item vectors from them, and popularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

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
CONTEXT_POWER = 0.75
RETURN_WINDOW = 5
RETURN_SMOOTHING = 50.0  # counts as so many events of each type


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
    matrix = _count_pairs(histories, items, window)
    if backward:
        matrix = (matrix + backward * matrix.T).tocsr()
    matrix.sort_indices()
    return _keep_largest(matrix, power)


def _count_pairs(histories: Histories, items: int, window: int) -> sparse.csr_matrix:
    """Count how often each item follows each other one, 1/d where it comes d events later."""
    matrix = sparse.csr_matrix((items, items), dtype=np.float32)
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    for distance in range(1, window + 1):
        before, after = histories.items[:-distance], histories.items[distance:]
        counts = (users[:-distance] == users[distance:]) & (before != after)
        values = np.full(int(counts.sum()), 1.0 / distance, np.float32)
        matrix = matrix + sparse.csr_matrix(
            (values, (before[counts], after[counts])), shape=matrix.shape
        )
    return matrix


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


def measure_evidence(
    histories: Histories, items: int, window: int, transitions: Transitions
) -> NDArray[np.float32]:
    """Measure what the engine's ``Evidence`` knows of each item and its followers: (followers, 3).

    With f the count of pairs in which the follower came after the item, 1/d where d events later, n the
    count of pairs in which it came right after it, and c the sum of f in both directions: f and n over
    the root of one and all that came after the item, and c over the root of both items' sums of c.

    Args:
        histories: The training part.
        items: Number of items.
        window: How many events later an item still follows another.
        transitions: Whose followers they are.
    """
    after, right_after = _count_pairs(histories, items, window), _count_pairs(histories, items, 1)
    together = (after + after.T).tocsr()
    sums = np.asarray(together.sum(axis=1), np.float64).ravel()
    rows = np.repeat(np.arange(items), np.diff(transitions.offsets))
    columns = transitions.items
    found = np.empty((len(columns), 3), np.float32)
    for place, counts in enumerate((after, right_after)):
        scale = np.sqrt(np.asarray(counts.sum(axis=1)).ravel() + SMOOTHING)
        found[:, place] = _entries(counts, rows, columns) / scale[rows]
    found[:, 2] = _entries(together, rows, columns) / np.sqrt(sums[rows] * sums[columns])
    return found


def _entries(
    matrix: sparse.csr_matrix, rows: NDArray[np.int64], columns: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Give some entries of a matrix, which can be zero."""
    return np.asarray(matrix[rows, columns], np.float64).ravel() if len(rows) else np.zeros(0)


def cooccurrence_vectors(
    histories: Histories, items: int, size: int, window: int, seed: int
) -> NDArray[np.float32]:
    """Give vectors in which items are near that occur, more than by chance, with the same items.

    A truncated SVD of log(1 + how many times more often than by chance two items occur together), a
    smooth form of the positive mutual information, which is what item2vec learns in many passes (Levy & Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", NeurIPS
    2014), with the frequency of the second item to the power 3/4 (Levy, Goldberg & Dagan,
    "Improving Distributional Similarity with Lessons Learned from Word Embeddings", TACL 2015).

    Args:
        histories: The training part.
        items: Number of items.
        size: Length of a vector.
        window: How many events apart two items still occur together.
        seed: Of the SVD.

    Returns:
        float32, (items, size), of standard deviation one, and zero for what occurs with nothing.
    """
    pairs = _count_pairs(histories, items, window)
    pairs = (pairs + pairs.T).tocoo()
    vectors = np.zeros((items, size), np.float32)
    rank = min(size, items)
    if not pairs.nnz:
        return vectors
    counts = np.asarray(pairs.sum(axis=1), np.float64).ravel()
    context = counts**CONTEXT_POWER / (counts**CONTEXT_POWER).sum()
    information = np.log1p(pairs.data / (counts[pairs.row] * context[pairs.col]))
    matrix = sparse.csr_matrix(
        (information.astype(np.float32), (pairs.row, pairs.col)), pairs.shape
    )
    # The values fall off slowly: with the usual few iterations much of the space is amiss.
    left, values, _ = randomized_svd(
        matrix,
        rank,
        n_oversamples=64,
        n_iter=8,
        power_iteration_normalizer="QR",
        random_state=seed,
    )
    # Turned at random, so that no dimension holds more than another when some are dropped.
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    found = (left * np.sqrt(values)) @ turn[:rank]
    return np.asarray(found / max(float(found.std()), 1e-12), np.float32)


def measure_return_rates(histories: Histories, types: int) -> NDArray[np.float64]:
    """Measure how often people come back to an item within five events of each event type, (types,).

    A rate is drawn towards that of all events, the more the fewer events there are of the type.

    Args:
        histories: The training part.
        types: The number of event type codes.
    """
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    returns = np.zeros(len(users), np.bool_)
    for distance in range(1, RETURN_WINDOW + 1):
        again = histories.items[:-distance] == histories.items[distance:]
        returns[:-distance] |= again & (users[:-distance] == users[distance:])
    goes_on = np.zeros(len(users), np.bool_)  # what comes after someone's last event nobody knows
    goes_on[:-1] = users[:-1] == users[1:]
    counts = np.bincount(histories.event_types[goes_on], minlength=types)
    found = np.bincount(histories.event_types[goes_on & returns], minlength=types)
    of_all = found.sum() / max(counts.sum(), 1)
    return np.asarray((found + RETURN_SMOOTHING * of_all) / (counts + RETURN_SMOOTHING))


def measure_popularity(
    histories: Histories, items: int, type_weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weigh how often each item was used, (items,): the latest fifth of the log counts twice."""
    values = type_weights[histories.event_types].astype(np.float64)
    start = np.nanquantile(histories.times, 1.0 - RECENT_SHARE)
    values[histories.times >= start] *= 2.0
    return np.bincount(histories.items, values, items).astype(np.float32)
