"""Measures of ranked recommendations: how well they meet what was held out, and how varied they are.

Lists are int64, (people, places), the best first, padded with ``PAD`` where a method had no more to
recommend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NOT_FOUND = np.iinfo(np.int64).max
PAD = -1


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


def ndcg(ranks: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """NDCG with one relevant item each: ``1 / log2(rank + 2)`` among the first k."""
    return np.where(ranks < k, 1.0 / np.log2(np.minimum(ranks, k) + 2.0), 0.0)


@dataclass(frozen=True, slots=True)
class Hits:
    """Which of the recommended items were relevant. Each measure gives a value per person, (n,).

    Attributes:
        found: bool, (n, places): whether the item at each place is one of the person's targets.
        relevant: int64, (n,): the number of targets of each person, at least 1.
    """

    found: NDArray[np.bool_]
    relevant: NDArray[np.int64]

    @classmethod
    def of(
        cls, lists: NDArray[np.int64], targets: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> Hits:
        """Look for each person's targets, ``targets[offsets[p]:offsets[p + 1]]``, in its list."""
        relevant = np.diff(offsets)
        width = int(max(targets.max(initial=0), lists.max(initial=0))) + 1
        people = np.arange(len(lists))
        wanted = np.repeat(people, relevant) * width + targets
        found = np.isin(people[:, np.newaxis] * width + lists, wanted) & (lists != PAD)
        return cls(found, relevant)

    def hit_rate(self, k: int) -> NDArray[np.float64]:
        """Whether a target is among the first k."""
        return np.asarray(self.found[:, :k].any(axis=1), np.float64)

    def recall(self, k: int) -> NDArray[np.float64]:
        """The share of the targets that are among the first k."""
        return np.asarray(self.found[:, :k].sum(axis=1) / self.relevant)

    def precision(self, k: int) -> NDArray[np.float64]:
        """The share of the first k that are targets; a place left empty is none."""
        return np.asarray(self.found[:, :k].sum(axis=1) / k)

    def mrr(self, k: int) -> NDArray[np.float64]:
        """The reciprocal of the first target's place, from 1; 0 if none is among the first k."""
        found = self.found[:, :k]
        return np.asarray(np.where(found.any(axis=1), 1.0 / (found.argmax(axis=1) + 1.0), 0.0))

    def ndcg(self, k: int) -> NDArray[np.float64]:
        """Discounted cumulative gain, ``1 / log2(place + 1)``, relative to that of the best list.

        Järvelin & Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002.
        """
        gains = 1.0 / np.log2(np.arange(k) + 2.0)
        found = self.found[:, :k]
        best = np.cumsum(gains)[np.minimum(self.relevant, k) - 1]
        return np.asarray((found @ gains[: found.shape[1]]) / best)

    def average_precision(self, k: int) -> NDArray[np.float64]:
        """The precision at the place of each target found, over as many as could be; mean: MAP."""
        found = self.found[:, :k]
        precisions = np.cumsum(found, axis=1) / (np.arange(found.shape[1]) + 1.0)
        return np.asarray((precisions * found).sum(axis=1) / np.minimum(self.relevant, k))


def coverage(lists: NDArray[np.int64], items: int) -> float:
    """The share of the catalogue that is recommended to anyone."""
    return len(np.unique(lists[lists != PAD])) / items


def gini(lists: NDArray[np.int64], items: int) -> float:
    """How unevenly the catalogue is recommended: 0 if all items alike, towards 1 if always one."""
    counts = np.sort(np.bincount(lists[lists != PAD], minlength=items)).astype(np.float64)
    total = counts.sum()
    if not total:
        return 0.0
    places = np.arange(1, items + 1)
    return float(((2 * places - items - 1) @ counts) / (items * total))


def novelty(
    lists: NDArray[np.int64], item_users: NDArray[np.float32], users: int
) -> NDArray[np.float64]:
    """The mean self-information of each list in bits, ``-log2(share of users with the item)``.

    Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", 2010.

    Args:
        lists: (n, places).
        item_users: How many users of the training part did anything with each item, (items,); an
            item with none counts as one with one.
        users: The number of users of the training part.

    Returns:
        (n,); 0 for an empty list.
    """
    information = np.log2(users / np.maximum(item_users.astype(np.float64), 1.0))
    is_item = lists != PAD
    sums = (information[lists] * is_item).sum(axis=1)
    return np.asarray(sums / np.maximum(is_item.sum(axis=1), 1))


def diversity(lists: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """One minus the mean cosine of the pairs of items in each list.

    Ziegler et al., "Improving recommendation lists through topic diversification", 2005.

    Args:
        lists: (n, places).
        vectors: Of the items, (items, dims).

    Returns:
        (n,); 0 for a list of fewer than two items.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, 1e-12)
    values = np.zeros(len(lists))
    for start in range(0, len(lists), _BLOCK):
        block = lists[start : start + _BLOCK]
        is_item = block != PAD
        # The cosines of all pairs sum to the squared length of the sum of the unit vectors.
        chosen = unit[block] * is_item[..., np.newaxis]
        total = (chosen.sum(axis=1, dtype=np.float64) ** 2).sum(axis=1)
        own = (chosen.astype(np.float64) ** 2).sum(axis=(1, 2))
        count = is_item.sum(axis=1)
        pairs = count * (count - 1)
        values[start : start + _BLOCK] = np.where(
            pairs > 0, 1.0 - (total - own) / np.maximum(pairs, 1), 0.0
        )
    return values


_BLOCK = 1_024
