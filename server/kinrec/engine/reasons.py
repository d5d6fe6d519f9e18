"""Says why items are recommended: which source, which similar users, which of the person's own events."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine.sources import (
    MAX_TRANSITION_EVENTS,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
    among,
    decay_by,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kinrec.engine.blend import Person
    from kinrec.engine.mixture import Mixture
    from kinrec.engine.model import Model

MAX_NEIGHBOURS = 5
MAX_EVENTS_NAMED = 3


class Reason(NamedTuple):
    """Why an item is recommended.

    Attributes:
        sources: The share of each source in the score; they sum to one.
        voters: How many of the similar users did something with the item lately.
        neighbours: The most similar of these, at most ``MAX_NEIGHBOURS``: user id and cosine.
        events: The person's own items that count most for it, at most ``MAX_EVENTS_NAMED``, each with
            its share of what all of the last 20 events count; see ``find_reasons``.
    """

    sources: dict[str, float]
    voters: int
    neighbours: list[tuple[str, float]]
    events: list[tuple[str, float]]


def find_reasons(
    model: Model,
    person: Person,
    weights: Mapping[str, float],
    mixture: Mixture,
    items: NDArray[np.int64],
) -> list[Reason]:
    """Find the reasons of some items.

    What an event counts is exact for the transitions, whose score is a sum over the events. The
    sequence's share is spread over the last 20 events by the positive part of the inner product of the
    event's item embedding with the recommended item's, halved for each later event as the transitions
    are. That is an approximation: to leave out one event after the other would cost a run of the
    encoder for each.

    Args:
        model: The model.
        person: Whom the items are recommended to.
        weights: Of the sources, as they were mixed.
        mixture: What was mixed.
        items: (n,), distinct numbers, of the mixture.
    """
    if not len(items):
        return []
    # Where each stands among those, from 1.
    place_of = np.zeros(model.manifest.item_count, np.int16)
    place_of[items] = np.arange(1, len(items) + 1)
    shares = _shares_of_sources(mixture, len(items), place_of)
    voted: list[list[tuple[int, float]]] = [[]] * len(items)
    if SIMILAR_USERS in weights:
        voted = _voters(model, person, len(items), place_of)
    events = _events(model, person, shares, items, place_of)
    of_each = zip(*[values.tolist() for values in shares.values()], strict=True)
    return [
        Reason(
            {source: share for source, share in zip(shares, said, strict=True) if share > 0.0},
            len(voters),
            [(model.users.key(user), min(cosine, 1.0)) for user, cosine in voters[:MAX_NEIGHBOURS]],
            named,
        )
        for said, voters, named in zip(of_each, voted, events, strict=True)
    ]


def _shares_of_sources(
    mixture: Mixture, count: int, place_of: NDArray[np.int16]
) -> dict[str, NDArray[np.float64]]:
    found: dict[str, NDArray[np.float64]] = {}
    for source, (numbers, values) in mixture.parts:
        hits, places = among(numbers, place_of)
        said = np.bincount(places, values.take(hits), count).astype(np.float64)
        found[source] = found[source] + said if source in found else said
    total = np.maximum(sum(found.values()), 1e-300)
    return {source: said / total for source, said in found.items()}


def _voters(
    model: Model, person: Person, count: int, place_of: NDArray[np.int16]
) -> list[list[tuple[int, float]]]:
    """Give for each item the similar users who did something with it lately, most similar first."""
    neighbours, cosines = person.neighbours(model.manifest.blend.neighbours)
    owners, numbers = model.votes.voted(neighbours)
    hits, places = among(numbers, place_of)
    voters: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    users, alike = neighbours.tolist(), cosines.tolist()
    # Neighbours come most similar first; one votes once for an item, however often it was there.
    seen = set()
    for vote in zip(places.tolist(), owners[hits].tolist(), strict=True):
        place, owner = vote
        if vote not in seen and alike[owner] > 0.0:
            seen.add(vote)
            voters[place].append((users[owner], alike[owner]))
    return voters


def _events(
    model: Model,
    person: Person,
    shares: Mapping[str, NDArray[np.float64]],
    items: NDArray[np.int64],
    place_of: NDArray[np.int16],
) -> list[list[tuple[str, float]]]:
    recent = person.history.items[-MAX_TRANSITION_EVENTS:][::-1].astype(np.int64)
    count = len(items)
    counts = np.zeros((len(recent), count))
    half_life = model.manifest.blend.transition_half_life
    if TRANSITIONS in shares:
        followers = person.followers(half_life)
        owners = np.arange(len(followers.lengths)).repeat(followers.lengths)
        hits, places = among(followers.items, place_of)
        cells = owners.take(hits) * count + places
        counts += np.bincount(cells, followers.shares.take(hits), counts.size).reshape(counts.shape)
        counts *= shares[TRANSITIONS] / np.maximum(counts.sum(axis=0), 1e-300)
    if SEQUENCE in shares:
        vectors = model.item_vectors
        near = np.maximum(vectors[recent] @ vectors[items].T, 0.0)
        near *= decay_by(half_life, len(recent))[:, np.newaxis]
        counts += near * (shares[SEQUENCE] / np.maximum(near.sum(axis=0, dtype=np.float64), 1e-300))
    # An item that came several times counts for all its events, and of equals the later comes first.
    places_of: dict[int, int] = {}
    rows = [places_of.setdefault(item, len(places_of)) for item in recent.tolist()]
    said = np.zeros((len(places_of), count))
    np.add.at(said, rows, counts)
    said /= np.maximum(counts.sum(axis=0), 1e-300)
    best = (-said).argsort(axis=0, kind="stable")[:MAX_EVENTS_NAMED]
    shares_of_best = np.take_along_axis(said, best, axis=0)
    keys = model.items.keys_of(places_of)
    return [
        [(keys[row], share) for row, share in zip(chosen, its, strict=True) if share > 0.0]
        for chosen, its in zip(best.T.tolist(), shares_of_best.T.tolist(), strict=True)
    ]
