"""Chooses the sequences that are replayed: of people of whom events were held out, at several lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine.histories import Histories
from kinrec.trainer.asking import events_of
from kinrec.trainer.splits import Split, select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine import Event
    from kinrec.engine.model import Model

LENGTHS = (1, 2, 10, 50, 500)
WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Sequences:
    """What is replayed.

    Attributes:
        users: The number of each one's user, int64, (n,).
        histories: Their events, (n sequences).
        lengths: Of each the number of its last events that it was cut to, as text, or ``WHOLE``.
        people: How many different users there are.
    """

    users: NDArray[np.int64]
    histories: Histories
    lengths: list[str]
    people: int

    def __len__(self) -> int:
        return len(self.users)

    def batches(self, size: int, seed: int) -> list[NDArray[np.int64]]:
        """Cut the places 0..n-1, in a random order for the batches to be ragged, into batches."""
        order = np.random.default_rng(seed).permutation(len(self))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def events(self, model: Model) -> list[list[Event]]:
        """Give each sequence as the events of a request."""
        return [events_of(history, model) for history in map(self.histories.user, range(len(self)))]


def choose_sequences(model: Model, people: int, seed: int) -> Sequences:
    """Choose people at random of whom the bundle's split held events out, or anyone if of nobody.

    Each one's whole stored history is a sequence, the held-out events at its end, and so are its last
    events at each of ``LENGTHS`` that somebody has.

    Args:
        model: The bundle.
        people: The most people for a length.
        seed: Of the choice.
    """
    full = model.histories
    _, held_out = Split.of(model.manifest).counts(full)
    able = np.flatnonzero((held_out > 0) & (full.lengths > 1))
    if not len(able):
        able = np.flatnonzero(full.lengths > 0)
    # One order for all lengths: the same people where they have as many events.
    order = np.random.default_rng(seed).permutation(able)
    users, parts, lengths = [], [], []
    for length in (*LENGTHS, None):
        chosen = order if length is None else order[full.lengths[order] >= length]
        chosen = chosen[:people]
        histories = select(full, chosen)
        users.append(chosen)
        parts.append(histories if length is None else histories.last(length))
        lengths += [WHOLE if length is None else str(length)] * len(chosen)
    joined = np.concatenate(users)
    return Sequences(joined, _join(parts), lengths, len(np.unique(joined)))


def _join(parts: list[Histories]) -> Histories:
    lengths = np.concatenate([part.lengths for part in parts])
    return Histories(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.event_types for part in parts]),
        np.concatenate([part.times for part in parts]),
    )
