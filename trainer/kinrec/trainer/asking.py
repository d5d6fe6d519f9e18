"""Asks for ranked lists: the engine as a server would, and the baselines block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from kinrec.engine import Event
from kinrec.trainer.metrics import PAD
from kinrec.trainer.splits import select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine import Engine
    from kinrec.engine.events import History
    from kinrec.engine.model import Model
    from kinrec.trainer.baselines import Baseline
    from kinrec.trainer.splits import Cases

DEPTH = 20
BLOCK = 256


class Ticker(Protocol):
    """Is told of every person that was asked about."""

    def __call__(self, method: str, done: int, of: int) -> None:
        """``done`` of ``of`` people are done for a method."""


def ask_engine(
    engine: Engine, full: Model, cases: Cases, name: str, tick: Ticker
) -> NDArray[np.int64]:
    """Ask about everyone as a known user with the events since.

    Args:
        engine: With the model of the training part.
        full: The model of the whole log, for the ids.
        cases: Whom to ask about.
        name: What the ticker is told.
        tick: Is told how it goes.

    Returns:
        int64, (people, DEPTH), padded.
    """
    lists = np.full((len(cases), DEPTH), PAD, np.int64)
    for person, user in enumerate(cases.users.tolist()):
        since = int(cases.since[person])
        answer = engine.recommend(
            user_id=full.users.key(user),
            events=events_of(cases.queries.user(person, since), full) if since else [],
            limit=DEPTH,
            include_seen=cases.include_seen,
        )
        found = [_known(full.items.get(item_id)) for item_id in answer.item_ids]
        lists[person, : len(found)] = found
        tick(name, person + 1, len(cases))
    return lists


def events_of(history: History, model: Model) -> list[Event]:
    """Give what is left of a log after its cleaning as the events of a request, none of which is left out.

    Args:
        history: Of a person.
        model: Has the ids of the items and the names of the types.
    """
    spec = model.manifest.event_spec
    kinds = ["", *(kind.name for kind in spec.event_types)]
    # A bundle does not hold the values. One that every rule takes keeps what cleaning has kept.
    value = spec.min_value
    return [
        Event(model.items.key(item), kinds[kind], None if np.isnan(time) else time, value)
        for item, kind, time in zip(
            history.items.tolist(),
            history.event_types.tolist(),
            history.times.tolist(),
            strict=True,
        )
    ]


def _known(number: int | None) -> int:
    if number is None:
        raise ValueError("the engine recommended an item outside of its catalogue")
    return number


def ask_baseline(baseline: Baseline, cases: Cases, tick: Ticker) -> NDArray[np.int64]:
    """Rank all items for everyone by a baseline's scores: int64, (people, DEPTH), padded."""
    lists = np.full((len(cases), DEPTH), PAD, np.int64)
    everyone = np.arange(len(cases))
    for start in range(0, len(cases), BLOCK):
        people = everyone[start : start + BLOCK]
        queries = select(cases.queries, people)
        scores = baseline.scores(queries)
        if not cases.include_seen:
            rows = np.repeat(np.arange(len(queries)), queries.lengths)
            scores[rows, queries.items] = -np.inf
        best = best_places(scores, DEPTH)
        # An item with no score is not recommended: it only fills the array.
        best[np.take_along_axis(scores, best, 1) <= 0.0] = PAD
        lists[people, : best.shape[1]] = best
        tick(baseline.name, int(people[-1]) + 1, len(cases))
    return lists


def best_places(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Give the places of the ``count`` greatest scores of each row, the greatest first."""
    count = min(count, scores.shape[1])
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(best, order, 1), np.int64)
