"""A person's row of the matrix that is factorized: training and requests build it alike.

The row of the matrix ``[R | alpha * relu(H) | alpha * relu(-H)]`` holds the weighted items, each
scaled by the logarithm of its inverse frequency and the whole to length one, and the interest vector
scaled to length one and split by sign. What makes factors of it is in kinrec.engine.fold_in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.events import History


def event_weights(
    from_end: NDArray[np.int64],
    event_types: NDArray[np.uint8],
    type_weights: NDArray[np.float32],
    half_life: float,
) -> NDArray[np.float32]:
    """Weigh events by type and by how many events came after them.

    Args:
        from_end: (n,), the number of later events of the same person.
        event_types: (n,).
        type_weights: (types,), by code.
        half_life: The number of later events after which an event counts half.

    Returns:
        float32, (n,).
    """
    return np.asarray(type_weights[event_types] * _by_recency(from_end, half_life), np.float32)


def _by_recency(from_end: NDArray[np.int64], half_life: float) -> NDArray[np.float32]:
    decay: NDArray[np.float32] = np.exp2(from_end * np.float32(-1.0 / half_life), dtype=np.float32)
    return decay


@lru_cache(maxsize=256)
def _decay(events: int, half_life: float) -> NDArray[np.float32]:
    """Weigh the events of one person by recency alone. To all who ask for the same the same array."""
    decay = _by_recency(np.arange(events - 1, -1, -1), half_life)
    decay.flags.writeable = False
    return decay


def split_by_sign(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors (n, d) to length one and put ``relu(x)`` and ``relu(-x)`` side by side (n, 2d)."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, np.float32(1e-12))
    return np.concatenate([np.maximum(unit, 0.0), np.maximum(-unit, 0.0)], axis=1)


def _split_by_sign(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the bits of ``split_by_sign`` for one vector, in half the time."""
    unit = vector / np.maximum(np.sqrt((vector * vector).sum()), np.float32(1e-12))
    return np.concatenate([np.maximum(unit, 0.0), np.maximum(-unit, 0.0)])


class Row(NamedTuple):
    """A person's row.

    Attributes:
        items: (n,), the columns of items that are not zero, each once.
        weights: float32, (n,), beside each.
        interest: float32, (2 * vector_size,), the columns of the interest vector.
    """

    items: NDArray[np.integer]
    weights: NDArray[np.float32]
    interest: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RowSpec:
    """What turns a history and an interest vector into a row.

    Attributes:
        item_weights: float32, (items,): the log inverse frequency of each item.
        type_weights: float32, (types,): the weight of each event type, by code.
        alpha: The weight of the interest vector beside the items.
        half_life: The number of later events after which an event counts half.
    """

    item_weights: NDArray[np.float32]
    type_weights: NDArray[np.float32]
    alpha: float
    half_life: float

    def row(self, history: History, vector: NDArray[np.float32]) -> Row:
        """Build the row of one person.

        Args:
            history: At least one event.
            vector: The interest vector, (vector_size,).
        """
        weights = _decay(len(history), self.half_life)
        if len(self.type_weights) > 1:
            weights = self.type_weights[history.event_types] * weights
        items: NDArray[np.integer] = history.items
        if len(set(items.tolist())) < len(items):  # seldom, and costlier than all the rest
            items, places = np.unique(items, return_inverse=True)
            weights = np.bincount(places, weights, len(items)).astype(np.float32)
        weights = weights * self.item_weights[items]
        weights /= np.maximum(np.sqrt(weights @ weights), np.float32(1e-12))
        return Row(items, weights, _split_by_sign(vector) * np.float32(self.alpha))
