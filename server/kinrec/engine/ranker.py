"""Corrects blended scores by a small network that reads all that is known of an item for a person.

A weighted sum says how much each source is to be believed on the whole. Which one is right of an item
depends on what the others say of it: a follower of the last item alone, or of everything; a rare item
or one that everybody wants. The network, fitted to what people did next, multiplies the blended score
of every item by what it finds in the features below. It looks at one item at a time, so what else may
be recommended never changes an item's score.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine.sources import (
    FACTORS,
    HISTORY,
    MAX_TRANSITION_EVENTS,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
    among,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Ranker as Spec
    from kinrec.engine.blend import Person
    from kinrec.engine.model import Model
    from kinrec.engine.sources import Shares

_SHARES = (TRANSITIONS, SIMILAR_USERS, FACTORS, HISTORY)
FEATURES = (
    "blend",  # the logarithm of the blended score, as of all shares
    SEQUENCE,  # of the item's probability as the next, by the encoder alone
    *_SHARES,
    "after",  # of how often it came after the person's last items
    "next",  # of how often right after them
    "together",  # of how closely it goes with them, whatever the order
    "support",  # of how many of them it goes with
    "popularity",
    "like_last",  # the inner product of its embedding with that of the last item
    "like_any",  # the greatest with that of one of the last items
    "events",  # the logarithm of the length of the history
    "seen",  # how often people come back to it after what was done with it last; 0 if nothing was
)
_BLEND, _SEQUENCE = FEATURES.index("blend"), FEATURES.index(SEQUENCE)
_COUNTS = slice(FEATURES.index(TRANSITIONS), FEATURES.index("support") + 1)
_POPULARITY, _EVENTS = FEATURES.index("popularity"), FEATURES.index("events")
_LIKE_LAST, _LIKE_ANY = FEATURES.index("like_last"), FEATURES.index("like_any")
_SEEN = FEATURES.index("seen")
# Below any share that decides anything: what no source names is not infinitely unlikely.
LEAST_SHARE = 1e-4
LEAST_SCORE = np.float32(1e-7)
LEAST_COUNT = 1e-2
_LEAST = np.array([[LEAST_SHARE]] * len(_SHARES) + [[LEAST_COUNT]] * 4, np.float32)
# An item of a lower score than the sequence alone gives the so many-th of all items is not looked at,
# nor is one of a lower score than the least, and takes the least factor: to look at them all would be
# the dearest part of a call. Neither bound depends on what may be recommended.
EXAMINED_DEPTH = 100
LEAST_EXAMINED = 2e-4
GREATEST = np.float32(5.0)  # of the logarithm of a factor
_LEAST_FACTOR = np.exp(-GREATEST)
LIMIT = 4.0  # of a feature, in standard deviations


def check_ranker(spec: Spec) -> str | None:
    """Say what is wrong with what a manifest says of a network; None for nothing."""
    hidden, inputs = len(spec.hidden_biases), len(FEATURES)
    if tuple(spec.features) != FEATURES:
        return "reads other features than this engine knows"
    sizes = (spec.means, spec.deviations, spec.hidden_weights, spec.output_weights)
    if [len(weights) for weights in sizes] != [inputs, inputs, inputs * hidden, hidden]:
        return "has numbers of weights that do not fit each other"
    if not all(np.isfinite(weights).all() for weights in (*sizes, spec.hidden_biases)):
        return "has weights that are not finite"
    if not all(deviation > 0.0 for deviation in spec.deviations):
        return "has a deviation that is not above zero"
    return None


class Blended(NamedTuple):
    """What was blended.

    Attributes:
        model: The model.
        person: Whom the sources were asked about, of at least one event.
        weights: Of the sources.
        parts: What each source said: numbers and weighted shares.
    """

    model: Model
    person: Person
    weights: Mapping[str, float]
    parts: Sequence[tuple[str, Shares]]


class Ranker:
    """A fitted network.

    Args:
        spec: What the manifest says of it; ``check_ranker`` has found nothing wrong with it.

    Attributes:
        include_seen: Whether it corrects answers that may have items of the history in them, or those
            that may not.
    """

    def __init__(self, spec: Spec) -> None:
        self.include_seen = spec.include_seen
        deviations = np.array(spec.deviations)
        # Features stand in rows: each is then one piece of memory.
        self._means = _column(np.array(spec.means))
        # The weights are of features in standard deviations from the means. To divide them once leaves
        # less to do for each item.
        weights = np.array(spec.hidden_weights).reshape(len(FEATURES), -1).T / deviations
        self._hidden = np.ascontiguousarray(weights, np.float32)
        self._limits = _column(LIMIT * deviations)
        self._biases = _column(np.array(spec.hidden_biases))
        self._output = np.array(spec.output_weights, np.float32)

    def factors(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give what scores are multiplied by, (n,), from ``features_of`` their items."""
        inputs = features - self._means
        np.minimum(np.maximum(inputs, -self._limits, out=inputs), self._limits, out=inputs)
        hidden = self._hidden @ inputs
        hidden += self._biases
        logarithms = self._output @ np.maximum(hidden, 0.0, out=hidden)
        return np.exp(np.minimum(np.maximum(logarithms, -GREATEST), GREATEST))

    def correct(
        self, blended: Blended, items: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Give the corrected scores, (n,).

        Args:
            blended: Of what, and for whom.
            items: (n,), distinct numbers.
            scores: (n,), the blended scores.
        """
        examined = (scores >= least_examined(blended)).nonzero()[0]
        factors = np.full(len(items), _LEAST_FACTOR)
        factors[examined] = self.factors(
            features_of(blended, items.take(examined), scores.take(examined))
        )
        return np.asarray(scores * factors, np.float32)


def _column(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, np.newaxis]


def least_examined(blended: Blended) -> np.float32:
    """Give the least score of an item that is looked at."""
    model, person, weights, _ = blended
    blend = model.manifest.blend
    _, shares = person.next_shares(blend.candidates, blend.sequence_temperature)
    place = min(EXAMINED_DEPTH, len(shares)) - 1
    return np.float32(max(LEAST_EXAMINED, weights.get(SEQUENCE, 0.0) * float(shares[place])))


def features_of(
    blended: Blended, items: NDArray[np.int64], scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Give what the network reads of some items: float32, (features, n). See ``Ranker.correct``."""
    model, person, weights, parts = blended
    count, own = len(items), person.history.items
    features = np.empty((len(FEATURES), count), np.float32)
    # Where each item stands among those, from 1; an int16 is as small as can be searched at random.
    place_of = np.zeros(model.manifest.item_count, np.int16)
    place_of[items] = np.arange(1, count + 1, dtype=np.int16)

    np.log(scores + LEAST_SCORE, out=features[_BLEND])
    counts = features[_COUNTS]
    counts[: len(_SHARES)] = 0.0
    followers = person.followers(model.manifest.blend.transition_half_life)
    hits, places = among(followers.items, place_of)
    counts[len(_SHARES) :] = model.evidence.of(followers, hits, places, count)
    for source, (numbers, values) in parts:
        if source == TRANSITIONS:
            shares = np.bincount(places, followers.shares.take(hits), count)
            counts[_SHARES.index(source)] = shares
        elif source in _SHARES:
            shares = np.bincount(place_of.take(numbers), values, count + 1)[1:]
            np.multiply(shares, 1.0 / weights[source], out=counts[_SHARES.index(source)])
    counts += _LEAST
    np.log(counts, out=counts)

    vectors = model.item_vectors
    last = own[-MAX_TRANSITION_EVENTS:][::-1]
    # In columns, for BLAS takes less time to multiply many rows by few columns than the other way round.
    beside = np.empty((vectors.shape[1], 1 + len(last)), np.float32)
    beside[:, 0], beside[:, 1:] = person.vector, vectors.take(last, axis=0).T
    near = np.ascontiguousarray((vectors.take(items, axis=0) @ beside).T)
    _, logits = person.next_items(model.manifest.blend.candidates)
    total = logits[0] + np.log(np.exp(logits - logits[0]).sum())
    np.subtract(near[0], total, out=features[_SEQUENCE])
    features[_LIKE_LAST] = near[1]
    near[1:].max(axis=0, out=features[_LIKE_ANY])

    features[_POPULARITY] = model.popularity.logarithms.take(items)
    features[_EVENTS] = math.log(len(own))
    seen = np.zeros(count + 1, np.float32)
    seen[place_of.take(own)] = model.own_history.returns(person.history.event_types)
    features[_SEEN] = seen[1:]
    return features
