"""Chooses the settings of each baseline on validation, from a small grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kinrec.trainer.baselines.counts import ItemTransitions, MostPopular
from kinrec.trainer.baselines.ease import Ease
from kinrec.trainer.baselines.ials import ImplicitAls
from kinrec.trainer.baselines.neighbours import ItemKnn, UserKnn
from kinrec.trainer.baselines.session_knn import SessionKnn
from kinrec.trainer.metrics import ndcg, ranks_of
from kinrec.trainer.splits import select

if TYPE_CHECKING:
    from kinrec.engine.histories import Histories
    from kinrec.trainer.baselines._base import Baseline
    from kinrec.trainer.splits import Targets

# Enough people that the better setting is told from the worse, few enough to ask in seconds.
VALIDATION_USERS = 2_000
SEED = 42
BLOCK = 256
# To invert the matrix of a large catalogue once for each setting would take longer than all the rest.
EASE_TRIAL_ITEMS = 4_000

METHODS: tuple[tuple[Baseline, ...], ...] = (
    (MostPopular(),),
    tuple(ItemKnn(neighbours) for neighbours in (20, 100, 500)),
    tuple(UserKnn(neighbours) for neighbours in (50, 200, 800)),
    tuple(Ease(l2) for l2 in (10.0, 50.0, 200.0, 800.0)),
    tuple(
        ImplicitAls(regularization=regularization, alpha=alpha)
        for regularization, alpha in ((1.0, 1.0), (10.0, 10.0), (30.0, 10.0), (100.0, 30.0))
    ),
    tuple(ItemTransitions(window, events) for window in (1, 5, 10) for events in (1, 20)),
    tuple(
        SessionKnn(sessions, neighbours)
        for sessions in (100, 1_000)
        for neighbours in (30, 100, 500)
    ),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen.

    Attributes:
        baseline: With the settings that did best on validation, not fitted.
        ndcg_at_10: What it reached there, on at most 2,000 people; 0 if there was no choice.
        tried: How many settings were tried.
    """

    baseline: Baseline
    ndcg_at_10: float
    tried: int


def choose(
    grid: tuple[Baseline, ...],
    histories: Histories,
    items: int,
    targets: Targets,
    *,
    include_seen: bool = False,
) -> Chosen:
    """Find the setting of a grid with the greatest NDCG@10 on validation.

    Args:
        grid: The same baseline with different settings.
        histories: The training part.
        items: The size of the catalogue.
        targets: For validation; if there are none, the first of the grid is taken.
        include_seen: Whether items of the history are ranked too, as they are in the test.
    """
    if len(grid) == 1 or not len(targets.users):
        return Chosen(_new(grid[0]), 0.0, 1)
    sample = targets.sample(VALIDATION_USERS, SEED)
    best, best_quality = grid[0], -1.0
    for candidate in grid:
        fitted = _for_trial(candidate, items).fit(histories, items)
        quality = validate(fitted, sample, include_seen=include_seen)
        if quality > best_quality:
            best, best_quality = candidate, quality
    return Chosen(_new(best), best_quality, len(grid))


def _new(baseline: Baseline) -> Baseline:
    """Give one of the same settings that is not fitted."""
    return replace(baseline)  # type: ignore[type-var] # all are dataclasses, which a protocol cannot say


def _for_trial(baseline: Baseline, items: int) -> Baseline:
    if isinstance(baseline, Ease) and items > EASE_TRIAL_ITEMS:
        return replace(baseline, max_items=EASE_TRIAL_ITEMS)
    return _new(baseline)


def validate(baseline: Baseline, targets: Targets, *, include_seen: bool = False) -> float:
    """Measure NDCG@10 of the targets over all items, those of the history left out or not."""
    ranks = []
    for start in range(0, len(targets.users), BLOCK):
        known = select(targets.queries, np.arange(start, min(start + BLOCK, len(targets.users))))
        seen = [] if include_seen else [known.user(person).items for person in range(len(known))]
        ranks.append(ranks_of(baseline.scores(known), targets.items[start : start + BLOCK], seen))
    return float(ndcg(np.concatenate(ranks), 10).mean())
