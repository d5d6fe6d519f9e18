"""Mixes what the sources say into one score per item, and finds the items that may be recommended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine.blend import ask
from kinrec.engine.index import take_best
from kinrec.engine.ranker import Blended
from kinrec.engine.sources import POPULARITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kinrec.engine.blend import Person
    from kinrec.engine.index import Found
    from kinrec.engine.model import Model
    from kinrec.engine.ranker import Ranker
    from kinrec.engine.sources import Shares
    from kinrec.engine.steps import Steps

# Of popular items that no source names: far below every share that decides anything.
_LEAST = np.float32(1e-9)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which items may be recommended, and how many are needed.

    Attributes:
        allowed: bool, (items,), what may be; None for all.
        blocked: Numbers of items that may not be.
        depth: How many items each source proposes, at least.
        fill: How many popular items take part, so that an answer is short only when no more items
            are left.
        min_score: The least score; 0 for any.
    """

    allowed: NDArray[np.bool_] | None
    blocked: NDArray[np.integer]
    depth: int
    fill: int
    min_score: float = 0.0


class Mixture(NamedTuple):
    """What may be recommended, with its scores.

    Attributes:
        items: int64, (n,), numbers, ascending.
        scores: float32, (n,), above zero.
        parts: What each source said: numbers, of which one can come more than once, and weighted
            shares before they are corrected and popular items discounted.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    parts: list[tuple[str, Shares]]

    def best(self, count: int) -> Found:
        """Give the items of the greatest scores, the greatest first."""
        return take_best(self.items, self.scores, count)


def mix(  # noqa: PLR0917 - whose scores, and what is done to them, in this order
    model: Model,
    person: Person,
    weights: Mapping[str, float],
    scope: Scope,
    discount: NDArray[np.float32] | None = None,
    ranker: Ranker | None = None,
) -> Steps[Mixture]:
    """Mix the shares of the sources, of which each is asked in a step.

    Args:
        model: The model.
        person: Whom to ask about; nobody's history is needed without weights.
        weights: Of the sources; none for popularity alone.
        scope: What may be recommended.
        discount: What each item's score is multiplied by at last, (items,); None for nothing.
        ranker: What corrects the mixed scores; None for nothing.
    """
    blend, allowed = model.manifest.blend, scope.allowed
    popular, shares = model.popularity.shares(scope.fill, allowed)
    parts = [(POPULARITY, (popular, shares * _LEAST if weights else shares))]
    count = max(blend.candidates, scope.depth)
    for source, weight in weights.items():
        numbers, shares = ask(source, model, person, blend, count)
        if allowed is not None:
            keep = allowed[numbers]
            numbers, shares = numbers[keep], shares[keep]
        parts.append((source, (numbers, shares * np.float32(weight))))
        yield
    scores = np.bincount(
        np.concatenate([numbers for _, (numbers, _) in parts]),
        np.concatenate([values for _, (_, values) in parts]),
        model.manifest.item_count,
    )
    scores[scope.blocked] = 0.0
    items = (scores != 0.0).nonzero()[0]  # of bools it takes a third of the time
    found = scores.take(items).astype(np.float32)
    if weights:
        if ranker is not None:
            found = ranker.correct(Blended(model, person, weights, parts), items, found)
        if discount is not None:
            found *= discount.take(items)
    if scope.min_score > 0.0:
        keep = found >= scope.min_score
        items, found = items[keep], found[keep]
    return Mixture(items, found, parts)
