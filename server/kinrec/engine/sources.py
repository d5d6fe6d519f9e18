"""Where recommendations come from: each source gives items and a share of one for each.

A share is the source's estimate of how likely the item is the next, so shares of different sources
can be mixed. Every source is sparse: it names the items it speaks for and no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine.index import USUAL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.engine.events import History
    from kinrec.engine.histories import Histories
    from kinrec.engine.index import Found, Search, VectorIndex

HISTORY = "history"
SEQUENCE = "sequence"
SIMILAR_USERS = "similar_users"
FACTORS = "factors"
TRANSITIONS = "transitions"
POPULARITY = "popularity"

SOURCES = (SEQUENCE, SIMILAR_USERS, FACTORS, TRANSITIONS, HISTORY, POPULARITY)

# The events of a person or neighbour that vote: older ones carry next to no weight.
MAX_VOTES_PER_NEIGHBOUR = 20
MAX_TRANSITION_EVENTS = 20
MAX_OWN_EVENTS = 200

Shares = tuple["NDArray[np.int64]", "NDArray[np.float32]"]


def softmax(found: Found, temperature: float, among: Found | None = None) -> Shares:
    """Turn the logits of an index search into shares of one.

    Args:
        found: Numbers and logits, the greatest first.
        temperature: Above zero.
        among: What the shares are of, the greatest first, if that is not ``found``.
    """
    numbers, scores = found
    _, logits = found if among is None else among
    scale = np.float32(1.0 / temperature)
    weights = np.exp((scores - logits[0]) * scale)
    total = weights.sum() if among is None else np.exp((logits - logits[0]) * scale).sum()
    return numbers, weights / total


def _to_shares(numbers: NDArray[np.int64], weights: NDArray[np.float32]) -> Shares:
    total = weights.sum()
    return numbers, weights / total if total > 0.0 else weights


@lru_cache(maxsize=256)
def decay_by(half_life: float, events: int) -> NDArray[np.float32]:
    """Give what the last of some events counts, the one before it and so on: float32, (events,).

    The same array to all who ask for the same, so it cannot be written.
    """
    decay = np.asarray(np.exp2(np.arange(events) * (-1.0 / half_life)), np.float32)
    decay.flags.writeable = False
    return decay


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join ``starts[i] .. starts[i] + lengths[i] - 1`` for every i."""
    # Here and below by the arrays' methods: numpy's functions of the same names, and indexing by an
    # array, take as long again or several times as long for arrays as small as those of a call.
    ends = lengths.cumsum()
    within = np.arange(ends[-1] if len(ends) else 0)
    within += (starts - (ends - lengths)).repeat(lengths)
    return within


def among(
    numbers: NDArray[np.int64], place_of: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Give where in ``numbers`` items stand that have a place, and the place of each, from 0.

    Args:
        numbers: (n,), of items, of which one can come more than once.
        place_of: (items,), the place of each item, from 1; 0 for those without.
    """
    places = place_of.take(numbers)
    hits = (places != 0).nonzero()[0]
    return hits, places.take(hits) - np.int16(1)


class SimilarUserVotes:
    """User-based collaborative filtering: neighbours vote with what they did last.

    A vote weighs the cosine, the event's type and its recency, as in weighted user-kNN (Herlocker
    et al., SIGIR 1999).
    """

    def __init__(self, histories: Histories, type_weights: NDArray[np.float32]) -> None:
        self._histories = histories
        self._type_weights = type_weights

    def shares(
        self,
        neighbours: NDArray[np.int64],
        similarities: NDArray[np.float32],
        half_life: float,
    ) -> Shares:
        """Give each item's share of the votes; an item can come more than once.

        Args:
            neighbours: (n,), numbers of users.
            similarities: (n,), the cosine of each.
            half_life: The number of a neighbour's later events that halve a vote.
        """
        history = self._histories
        stops, lengths, places = self._recent(neighbours)
        from_end = (stops - 1).repeat(lengths) - places
        decay = decay_by(half_life, MAX_VOTES_PER_NEIGHBOUR)
        weights = np.maximum(similarities, 0.0).repeat(lengths) * decay.take(from_end)
        if len(self._type_weights) > 1:
            weights = weights * self._type_weights.take(history.event_types.take(places))
        return _to_shares(history.items.take(places).astype(np.int64), weights)

    def voted(self, neighbours: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the place of each voter in ``neighbours``, and the item it votes for, (votes,) each."""
        _, lengths, places = self._recent(neighbours)
        voters = np.repeat(np.arange(len(neighbours)), lengths)
        return voters, self._histories.items[places].astype(np.int64)

    def _recent(
        self, neighbours: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Give where each one's events end, how many vote, and the places of all that do."""
        offsets = self._histories.offsets
        stops = offsets.take(neighbours + 1)
        lengths = np.minimum(stops - offsets.take(neighbours), MAX_VOTES_PER_NEIGHBOUR)
        return stops, lengths, ranges(stops - lengths, lengths)


class OwnHistory:
    """The person's own items, for what people come back to.

    An event weighs its recency, and how often people come back to an item after the latest that the
    person did with this one: what they looked at they may buy, what they bought they may have enough of.

    Args:
        return_rates: (event types,), how often they do; empty where all types count alike.
        items: The number of items.
    """

    def __init__(self, return_rates: NDArray[np.float32], items: int) -> None:
        self._rates = return_rates
        self._differ = len(set(return_rates.tolist())) > 1
        self._items = items
        self._of_greatest = return_rates / max(return_rates.max(initial=0.0), np.float32(1e-9))

    def returns(self, event_types: NDArray[np.uint8]) -> NDArray[np.float32] | float:
        """Give how often people come back after events, beside the type after which most do, (n,)."""
        return self._of_greatest.take(event_types) if self._differ else 1.0

    def shares(self, history: History, half_life: float) -> Shares:
        """Give each own item's share; an item can come more than once.

        Args:
            history: What the person did.
            half_life: The number of later events after which an event counts half.
        """
        recent = history.items[-MAX_OWN_EVENTS:].astype(np.int64)
        weights = decay_by(half_life, len(recent))[::-1]
        if self._differ:
            latest = np.zeros(self._items, np.uint8)
            latest[recent] = history.event_types[-MAX_OWN_EVENTS:]  # of one item the last stays
            weights = weights * self._rates.take(latest.take(recent))
        return _to_shares(recent, weights)


@dataclass(frozen=True, slots=True)
class Transitions:
    """What people did within a few events of an item, above all after it.

    Attributes:
        offsets: int64, (items + 1,); the followers of item i are ``offsets[i]:offsets[i + 1]``.
        items: int32, the followers.
        weights: float32, beside each follower, above zero.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]

    def save(self, directory: Path) -> None:
        """Write one file per array."""
        arrays: tuple[NDArray[np.generic], ...] = (self.offsets, self.items, self.weights)
        for name, array in zip(TRANSITION_FILES, arrays, strict=True):
            np.save(directory / name, array)

    def followers(self, history: History, half_life: float) -> Followers:
        """Find the followers of the last events of a history.

        Args:
            history: What the person did.
            half_life: The number of later events after which an event counts half.
        """
        recent = history.items[-MAX_TRANSITION_EVENTS:][::-1].astype(np.int64)
        starts = self.offsets.take(recent)
        lengths = self.offsets.take(recent + 1) - starts
        places = ranges(starts, lengths)
        decay = decay_by(half_life, len(recent)).repeat(lengths)
        items = self.items.take(places).astype(np.int64)
        _, shares = _to_shares(items, self.weights.take(places) * decay)
        return Followers(lengths, items, places, decay, shares)


class Followers(NamedTuple):
    """The followers of the last events of a history, those of the last event first.

    Attributes:
        lengths: int64, (events,), how many each event has.
        items: int64, (n,), their numbers, of which one can come more than once.
        places: int64, (n,), where each stands among the followers of all items.
        decay: float32, (n,), what the event of each counts.
        shares: float32, (n,), the share of each.
    """

    lengths: NDArray[np.int64]
    items: NDArray[np.int64]
    places: NDArray[np.int64]
    decay: NDArray[np.float32]
    shares: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an item and each of its followers, beside the weight of the transition.

    Attributes:
        transitions: Whose followers they are.
        counts: float32, (followers, 3), zero or more: how often the follower came after the item, how
            often right after it, and how closely the two go together, whatever the order.
    """

    transitions: Transitions
    counts: NDArray[np.float32]

    def of(
        self,
        followers: Followers,
        hits: NDArray[np.int64],
        places: NDArray[np.int16],
        count: int,
    ) -> NDArray[np.float64]:
        """Add up what is known of some items and the last events of a history.

        Args:
            followers: Of the history.
            hits: Which of the followers are such an item; see ``among``.
            places: Beside each of these the place of the item among those asked about.
            count: How many are asked about.

        Returns:
            (4, count): the three counts, decayed, and how many of the events an item follows.
        """
        counts = self.counts.take(followers.places.take(hits), axis=0)
        # Of the types that bincount would make of them each time.
        decayed = np.empty((3, len(hits)))
        np.multiply(counts.T, followers.decay.take(hits), out=decayed)
        places = places.astype(np.intp)
        found = np.empty((4, count))
        for row, values in zip(found, decayed, strict=False):
            row[:] = np.bincount(places, values, count)
        found[3] = np.bincount(places, minlength=count)
        return found


TRANSITION_FILES = ("transition_offsets.npy", "transition_items.npy", "transition_weights.npy")
EVIDENCE_FILE = "transition_evidence.npy"


class Popularity:
    """The items that most people want, whoever asks."""

    def __init__(self, popularity: NDArray[np.float32]) -> None:
        self._popularity = popularity
        self.logarithms = np.log1p(popularity)  # (items,), of each one's popularity and one
        # By number where popularity is equal, so that the order is always the same.
        self._order = np.lexsort((np.arange(len(popularity)), -popularity)).astype(np.int64)
        # Above zero even for what nobody did anything with: it comes last, not never.
        self._shares = np.maximum(
            popularity[self._order] / max(float(popularity.sum()), 1e-12), 1e-20
        )

    def shares(self, count: int, allowed: NDArray[np.bool_] | None = None) -> Shares:
        """Give the ``count`` most popular items, of all or of those allowed, and their shares among all.

        Args:
            count: How many.
            allowed: bool, (items,); None for all.
        """
        if allowed is None:
            return self._order[:count], self._shares[:count]
        places = np.flatnonzero(allowed[self._order])[:count]
        return self._order[places], self._shares[places]

    def discount(self, power: float) -> NDArray[np.float32]:
        """Give what each item's score is multiplied by, (items,): ``(1 + popularity) ** -power``."""
        return (np.float32(1.0) + self._popularity) ** np.float32(-power)


class FactorScores:
    """The items whose factors fit the person's best: the reconstruction of the matrix."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index

    def shares(self, factors: NDArray[np.float32], count: int, how: Search = USUAL) -> Shares:
        """Give the ``count`` items of the greatest inner product that may be found.

        Their shares are of the sum of the ``count`` greatest of all.
        """
        numbers, scores = self._index.search(factors, count)
        if how.within is None:
            return _to_shares(numbers, np.maximum(scores, 0.0))
        total = float(np.maximum(scores, 0.0).sum())
        numbers, scores = self._index.search(factors, count, how)
        return numbers, np.maximum(scores, 0.0) * np.float32(1.0 / total if total > 0.0 else 0.0)
