"""Puts scored items in the order in which they are shown: diverse, and capped by category."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine.sources import ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from kinrec.engine.index import Found
    from kinrec.engine.mixture import Mixture

# How many of the best are made diverse: at least, for each that is asked for, and at most.
MIN_POOL = 100
POOL_PER_ITEM = 5
MAX_POOL = 1_000
RELEVANCE_POWER = 1 / 3
_CHUNK = 1_024


def pool_for(limit: int) -> int:
    """Give how many of the best items a list of ``limit`` is chosen from."""
    return min(max(MIN_POOL, POOL_PER_ITEM * limit), MAX_POOL)


class Capped:
    """Counts the items of each category that are taken.

    Args:
        offsets: int64, (items + 1,).
        codes: The categories of item i are ``codes[offsets[i]:offsets[i + 1]]``.
        most: How many items of one category may be taken.
    """

    def __init__(self, offsets: NDArray[np.int64], codes: NDArray[np.int32], most: int) -> None:
        self._offsets = offsets
        self._codes = codes
        self._most = most
        self._taken: dict[int, int] = {}

    def open(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of which of some items no category is full, (n,)."""
        full = [code for code, taken in self._taken.items() if taken >= self._most]
        lengths = self._offsets[items + 1] - self._offsets[items]
        owners = np.repeat(np.arange(len(items)), lengths)
        is_full = np.isin(self._codes[ranges(self._offsets[items], lengths)], full)
        return np.asarray(np.bincount(owners, is_full, len(items)) == 0)

    def take(self, item: int) -> bool:
        """Take an item, unless one of its categories is full."""
        taken, codes = self._taken, self._codes[self._offsets[item] : self._offsets[item + 1]]
        found = codes.tolist()
        if any(taken.get(code, 0) >= self._most for code in found):
            return False
        for code in found:
            taken[code] = taken.get(code, 0) + 1
        return True


def arrange(
    mixture: Mixture,
    count: int,
    *,
    pool: int,
    diversity: float,
    vectors: NDArray[np.float32],
    cap: Capped | None,
) -> Found:
    """Choose up to ``count`` items in the order in which they are shown.

    Args:
        mixture: What may be shown.
        count: At least 1.
        pool: How many of the best are made diverse; the rest follow by their scores.
        diversity: 0 to 1; see ``Options``.
        vectors: The item embeddings, (items, dims).
        cap: None for no cap.

    Returns:
        Numbers and scores; with a diversity the scores need not fall.
    """
    if not diversity and cap is None:
        return mixture.best(count)
    items, scores = mixture.best(len(mixture.items) if cap is not None else max(pool, count))

    def take(place: int) -> bool:
        return cap is None or cap.take(int(items[place]))

    chosen: list[int] = []
    if diversity:
        chosen += islice(_diverse(items[:pool], scores, vectors, diversity, take), count)
    rest = np.ones(len(items), np.bool_)
    rest[chosen] = False
    places = np.flatnonzero(rest)
    for start in range(0, len(places), _CHUNK):
        if len(chosen) == count:
            break
        chunk = places[start : start + _CHUNK]
        if cap is not None:  # at once: of the whole catalogue nearly all may be of full categories
            chunk = chunk[cap.open(items[chunk])]
        chosen += islice(filter(take, chunk.tolist()), count - len(chosen))
    return items[chosen], scores[chosen]


def _diverse(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    vectors: NDArray[np.float32],
    diversity: float,
    take: Callable[[int], bool],
) -> Iterator[int]:
    """Give the places of those items that are taken, at each step of the greatest marginal relevance.

    That is ``(1 - diversity) * relevance - diversity * greatest cosine to one before`` (Carbonell &
    Goldstein, "The Use of MMR", SIGIR 1998). The relevance is the score beside the greatest, to a power
    below 1: scores fall steeply, and beside those of the first few all others would be as good as none.
    """
    if not len(items):
        return
    units = vectors[items]
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    relevance = (1.0 - diversity) * (scores[: len(items)] / scores[0]) ** RELEVANCE_POWER
    nearest = np.full(len(items), -1.0, np.float32)
    for _ in range(len(items)):
        place = int(np.argmax(relevance - diversity * nearest))
        relevance[place] = -np.inf
        if take(place):
            yield place
            np.maximum(nearest, units @ units[place], out=nearest)
