"""Cuts histories into training sequences and puts sequences of like length into batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories

POOL = 32
# A step takes about so many sequences, within these numbers of events: what validated best on
# amazon-beauty (short histories) and movielens-100k (long ones). An epoch of a small log still has
# so many steps.
BATCH_SEQUENCES = 80
BATCH_EVENTS = (512, 1_024)
EPOCH_STEPS = 64
MIN_BATCH_EVENTS = 64
END_BATCH = 256

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Windows:
    """The training sequences of some histories.

    A history of more than ``window + 1`` events gives several sequences, cut from its end, so that
    every event but a user's first is predicted exactly once.
    """

    def __init__(self, histories: Histories, window: int, batch_events: int) -> None:
        self._items = histories.items.astype(np.int64)
        self._types = histories.event_types.astype(np.int64)
        self._gaps = histories.gaps()
        starts, lengths = [], []
        for first, stop in zip(
            histories.offsets[:-1].tolist(), histories.offsets[1:].tolist(), strict=True
        ):
            for end in range(stop, first + 1, -window):
                start = max(first, end - window - 1)
                starts.append(start)
                lengths.append(end - start - 1)
        self._starts = np.array(starts, np.int64)
        self._lengths = np.array(lengths, np.int64)
        total = int(self._lengths.sum())
        self._per_batch = max(1, round(batch_events * len(starts) / total)) if total else 1
        self.steps = max(1, -(-len(starts) // self._per_batch))

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Give every sequence once, in random batches of like lengths.

        Yields:
            Items, event types, gaps and next items, int64 (batch, time), and where there is a next
            item, bool (batch, time).
        """
        shuffled = rng.permutation(len(self._starts))
        size = self._per_batch
        batches = []
        for start in range(0, len(shuffled), size * POOL):
            pool = shuffled[start : start + size * POOL]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [pool[place : place + size] for place in range(0, len(pool), size)]
        for number in rng.permutation(len(batches)):
            yield self._batch(batches[number])

    def _batch(self, chosen: NDArray[np.int64]) -> Batch:
        lengths = self._lengths[chosen]
        time = np.arange(int(lengths.max()))
        mask = time < lengths[:, None]
        places = np.where(mask, self._starts[chosen][:, None] + time, 0)
        targets = np.where(mask, places + 1, 0)
        arrays = (self._items[places], self._types[places], self._gaps[places])
        items, types, gaps = (torch.from_numpy(array) for array in arrays)
        return items, types, gaps, torch.from_numpy(self._items[targets]), torch.from_numpy(mask)

    @staticmethod
    def ends(
        histories: Histories, users: NDArray[np.int64], limit: int
    ) -> Iterator[
        tuple[NDArray[np.int64], tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]
    ]:
        """Give the last ``limit`` events of users in batches of like lengths.

        Yields:
            Places in ``users``, and their items, event types and gaps (batch, time) with the place
            of each one's last event (batch,).
        """
        gaps = histories.gaps()
        stops = histories.offsets[users + 1]
        starts = np.maximum(histories.offsets[users], stops - limit)
        lengths = stops - starts
        order = np.argsort(lengths, kind="stable")
        for first in range(0, len(order), END_BATCH):
            chosen = order[first : first + END_BATCH]
            time = np.arange(int(lengths[chosen].max()))
            mask = time < lengths[chosen][:, None]
            places = np.where(mask, starts[chosen][:, None] + time, 0)
            arrays = (histories.items[places], histories.event_types[places], gaps[places])
            items, types, gap = (torch.from_numpy(array.astype(np.int64)) for array in arrays)
            yield chosen, (items, types, gap, torch.from_numpy(lengths[chosen] - 1))


def choose_batch_events(lengths: NDArray[np.int64], window: int) -> int:
    """Choose the events per step for histories of some lengths."""
    predicted = np.maximum(lengths - 1, 0)
    events, sequences = int(predicted.sum()), int((-(-predicted // window)).sum())
    least, most = BATCH_EVENTS
    wanted = min(max(BATCH_SEQUENCES * events / max(sequences, 1), least), most)
    return round(max(min(wanted, events / EPOCH_STEPS), MIN_BATCH_EVENTS))
