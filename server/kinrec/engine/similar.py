"""Finds who and what is alike: users by the cosine of the factors, items by that of the embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine._errors import UnknownItemError
from kinrec.engine._types import SimilarItems
from kinrec.engine.events import check_id
from kinrec.engine.index import products, take_best
from kinrec.engine.recommender import allowed_items
from kinrec.engine.stages import ANSWER, SEARCH, listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.engine.blend import Person
    from kinrec.engine.conditions import Condition
    from kinrec.engine.model import Model


class Neighbours(NamedTuple):
    """The users most like a person, the most alike first.

    Attributes:
        user_ids: Their ids.
        similarities: The cosine of each, -1 to 1.
        shared_items: Of each, the ids of items that both did something with; empty if none were asked
            for.
    """

    user_ids: list[str]
    similarities: list[float]
    shared_items: list[list[str]]


def find_similar_users(model: Model, person: Person, limit: int, shared_items: int) -> Neighbours:
    """Find the users most like a person of at least one event.

    Args:
        model: The model.
        person: Who is not among them.
        limit: How many.
        shared_items: How many of the items to name that both did something with.
    """
    heard_by = listener.get()
    heard_by.enter(SEARCH)
    found, cosines = person.neighbours(limit)
    heard_by.enter(ANSWER)
    users = found.tolist()
    shared = [_shared(model, person, user, shared_items) for user in users] if shared_items else []
    similarities = np.clip(cosines, -1.0, 1.0).tolist()
    return Neighbours(model.users.keys_of(users), similarities, shared)


def _shared(model: Model, person: Person, user: int, most: int) -> list[str]:
    """Give the items that a person and a user both did something with, the person's last first."""
    theirs = set(model.histories.user(user).items.tolist())
    own = dict.fromkeys(person.history.items[::-1].tolist())
    return [model.items.key(item) for item in own if item in theirs][:most]


def find_similar_items(
    model: Model,
    item_id: str,
    limit: int,
    allow_item_ids: Sequence[str],
    conditions: Sequence[Condition],
) -> SimilarItems:
    """Find the items most like another, of those that a list and conditions leave.

    Raises:
        UnknownItemError: The item is not known.
        InvalidFieldError: A field breaks its rule.
    """
    check_id("item_id", item_id)
    item = model.items.get(item_id)
    if item is None:
        raise UnknownItemError
    heard_by = listener.get()
    heard_by.enter(SEARCH)
    allowed = allowed_items(model, allow_item_ids, conditions)
    vectors, lengths = model.item_vectors, model.item_lengths
    others = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    others = others[others != item]
    cosines = products(vectors, others, vectors[item])
    cosines = cosines / np.maximum(lengths[others] * lengths[item], 1e-12)
    numbers, found = take_best(others, np.clip(cosines, -1.0, 1.0), limit)
    heard_by.enter(ANSWER)
    return SimilarItems(
        model.items.keys_of(numbers.tolist()),
        found.tolist(),
        model.titles.of(numbers.tolist()),
        None if allowed is None else int(allowed.sum()),
    )
