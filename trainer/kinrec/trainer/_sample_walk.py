"""How a made-up user walks through the sample shop, one event after the other."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUCCESSION_RATE = 0.5
"""How often an item that has a successor is followed by it, if that was not seen before."""

_NOISE_RATE = 0.05  # how often someone looks at just anything
_CART_RATE = 0.15  # after a view
_BUY_RATE = 0.5  # after a cart
_MOST_DRAWS = 8  # of items until one is new


class TasteWalk:
    """Draws histories.

    Args:
        item_category: (items,) the category of each item.
        item_popularity: (items,) each item's share of its category.
        successor: (items,) the item that likely follows; -1 for none.
        rng: Where chance comes from.
    """

    def __init__(
        self,
        item_category: NDArray[np.int64],
        item_popularity: NDArray[np.float64],
        successor: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        self._rng = rng
        self._successor = successor.tolist()
        self._items = len(successor)
        self._members: list[list[int]] = []
        self._cumulative: list[list[float]] = []
        for category in range(int(item_category.max()) + 1):
            members = np.flatnonzero(item_category == category)
            self._members.append(members.tolist())
            self._cumulative.append(np.cumsum(item_popularity[members]).tolist())

    def history(self, taste: NDArray[np.float64], length: int) -> list[tuple[int, str]]:
        """Draw a history.

        Args:
            taste: (2, categories) the shares of the categories at its begin and at its end.
            length: Its number of events.

        Returns:
            Items and event types; no event has the item and the type of the one before.
        """
        begin, end = np.cumsum(taste, axis=1)
        events: list[tuple[int, str]] = []
        seen: set[int] = set()
        item = -1
        while len(events) < length:
            share = len(events) / length
            item = self._next(item, (1 - share) * begin + share * end, seen)
            seen.add(item)
            events.append((item, "view"))
            if self._rng.random() < _CART_RATE:
                events.append((item, "cart"))
                if self._rng.random() < _BUY_RATE:
                    events.append((item, "buy"))
        return events[:length]

    def _next(self, item: int, cumulative_taste: NDArray[np.float64], seen: set[int]) -> int:
        """Draw the item to view after another (-1: the first), a new one if any is found soon."""
        successor = self._successor[item] if item >= 0 else -1
        if successor >= 0 and successor not in seen and self._rng.random() < SUCCESSION_RATE:
            return successor
        cumulative = cumulative_taste.tolist()
        for _ in range(_MOST_DRAWS):
            drawn = self._draw(cumulative)
            if drawn not in seen:
                return drawn
        # Anything but the same again, which would be an immediate repeat.
        return (item + 1 + int(self._rng.integers(self._items - 1))) % self._items

    def _draw(self, cumulative_taste: list[float]) -> int:
        """Draw an item by taste and popularity."""
        if self._rng.random() < _NOISE_RATE:
            return int(self._rng.integers(self._items))
        category = _pick(cumulative_taste, self._rng.random())
        return self._members[category][_pick(self._cumulative[category], self._rng.random())]


def _pick(cumulative: list[float], chance: float) -> int:
    # The last sum can be a hair below 1.
    return min(bisect(cumulative, chance), len(cumulative) - 1)
