"""Measures of ranked recommendations. One held-out item per person, so recall is the hit rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NOT_FOUND = np.iinfo(np.int64).max


def ranks_of(
    scores: NDArray[np.float32], targets: NDArray[np.int64], seen: Sequence[NDArray[np.int32]]
) -> NDArray[np.int64]:
    """Rank each target among all items.

    Args:
        scores: (n, items); seen items are overwritten.
        targets: (n,).
        seen: The items of each row that are left out; a target among them is not found.

    Returns:
        (n,), from 0. Items of an equal score come before the target.
    """
    rows = np.arange(len(targets))
    own = scores[rows, targets].copy()
    for row, items in enumerate(seen):
        scores[row, items] = -np.inf
    ranks = (scores >= own[:, np.newaxis]).sum(axis=1) - 1
    return np.where(np.isfinite(scores[rows, targets]), ranks, NOT_FOUND)


def ranks_in(recommended: Sequence[Sequence[int]], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank each target, (n,), in its list of recommended items, from 0."""
    found = [
        list(items).index(target) if target in items else NOT_FOUND
        for items, target in zip(recommended, targets.tolist(), strict=True)
    ]
    return np.array(found, np.int64)


def hit_rate(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Whether the item is among the first k; with one held-out item also Recall@k."""
    return (ranks < k).astype(np.float64)


def precision(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """The share of the first k that is the held-out item."""
    return hit_rate(ranks, k) / k


def ndcg(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain: ``1 / log2(rank + 2)`` among the first k."""
    return np.where(ranks < k, 1.0 / np.log2(np.minimum(ranks, k) + 2.0), 0.0)


def mrr(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """The reciprocal of the place, from 1, among the first k."""
    return np.where(ranks < k, 1.0 / (np.minimum(ranks, k) + 1.0), 0.0)


def coverage(recommended: Sequence[Sequence[int]], items: int) -> float:
    """The share of the catalogue that is recommended to anyone."""
    return len({item for row in recommended for item in row}) / items
