"""Measures what is served: leave-one-out over the whole catalogue, beside the classic recommenders.

The model is the one inside the bundle that was trained without everyone's last two events. Each
person is asked about through the engine's own ``recommend``, as a known user with one event since,
and the last event is what should be recommended.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kinrec.engine import Engine, Event
from kinrec.engine.histories import Histories
from kinrec.engine.model import Model
from kinrec.engine.store import find_bundle
from kinrec.trainer import metrics
from kinrec.trainer.baselines import fit_baselines
from kinrec.trainer.errors import DataError, OutputError
from kinrec.trainer.training import EVALUATION, HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.trainer.baselines import Baseline

CUTOFFS = (5, 10, 20)
DEPTH = max(CUTOFFS)
BLOCK = 256
REPORT = "evaluation.json"


class Ticker(Protocol):
    """Is told of every person that was asked about."""

    def __call__(self, method: str, done: int, of: int) -> None:
        """``done`` of ``of`` people are done for a method."""


@dataclass(frozen=True, slots=True)
class Cases:
    """Who is asked about, and what should be recommended.

    Attributes:
        users: int64, (n,).
        targets: int64, (n,), the item of each one's last event.
        histories: All but the last event of each, (n people).
        repeats: People left out because their last item was in their history, and items of the
            history are not recommended.
        include_seen: Whether items of the history are recommended.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    histories: Histories
    repeats: int
    include_seen: bool


@dataclass(frozen=True, slots=True)
class Result:
    """The measures of one method.

    Attributes:
        method: Its name.
        measures: By name, e.g. ``NDCG@10``.
    """

    method: str
    measures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of the served answers and of the baselines.

    Attributes:
        version: The bundle's version.
        people: How many people were asked about.
        repeats: See Cases.
        items: Size of the catalogue.
        results: kinrec first.
    """

    version: str
    people: int
    repeats: int
    items: int
    results: tuple[Result, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give all as plain types."""
        return {
            "version": self.version,
            "split": "leave-one-out",
            "people": self.people,
            "left_out_because_seen_before": self.repeats,
            "items": self.items,
            "methods": {result.method: result.measures for result in self.results},
        }


def evaluate(path: Path, version: str | None, tick: Ticker) -> Evaluation:
    """Evaluate a bundle and write ``evaluation.json`` into it.

    Args:
        path: A store or a bundle.
        version: The version in the store; the newest if None.
        tick: Is told how it goes.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        DataError: Nobody has three events, so nothing was held out.
        OutputError: The result cannot be written.
    """
    bundle = find_bundle(path, version)
    full = Model.open(bundle)
    engine = Engine.load(bundle / EVALUATION)
    trained = Model.open(bundle / EVALUATION).histories
    include_seen = full.manifest.event_spec.include_seen_default
    cases = find_cases(full.histories, include_seen=include_seen)
    items = len(full.items)
    served = _ask_engine(engine, full, cases, tick)
    results = [Result("kinrec", measure(served, cases.targets, items))]
    for baseline in fit_baselines(trained, items):
        lists = _ask_baseline(baseline, cases, tick)
        results.append(Result(baseline.name, measure(lists, cases.targets, items)))
    evaluation = Evaluation(
        full.manifest.version, len(cases.users), cases.repeats, items, tuple(results)
    )
    _write(bundle / REPORT, evaluation)
    return evaluation


def find_cases(full: Histories, *, include_seen: bool) -> Cases:
    """Find the people whose last two events were held out: those with three or more.

    Args:
        full: All events; of long histories the last.
        include_seen: Whether items of the history are recommended. If not, a last item that is in
            the history cannot be, by no method, and its person is left out.
    """
    users = np.flatnonzero(full.lengths > HELD_OUT)
    targets = full.items[full.offsets[users + 1] - 1].astype(np.int64)
    if not include_seen:
        seen = np.array(
            [
                target in full.user(user).items[:-1]
                for user, target in zip(users.tolist(), targets.tolist(), strict=True)
            ],
            bool,
        )
        repeats = int(seen.sum())
        users, targets = users[~seen], targets[~seen]
    else:
        repeats = 0
    if not len(users):
        raise DataError("nobody has three events, so none could be held out to evaluate on")
    histories = _select(full.without_last(np.ones(len(full), np.int64)), users)
    return Cases(users, targets, histories, repeats, include_seen)


def _select(histories: Histories, users: NDArray[np.int64]) -> Histories:
    parts = [histories.user(user) for user in users.tolist()]
    return Histories(
        np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.event_types for part in parts]),
        np.concatenate([part.times for part in parts]),
    )


def _ask_engine(engine: Engine, full: Model, cases: Cases, tick: Ticker) -> list[list[int]]:
    names = ["", *(kind.name for kind in full.manifest.event_spec.event_types)]
    lists = []
    for place, user in enumerate(cases.users.tolist()):
        history = cases.histories.user(place)
        time = float(history.times[-1])
        since = Event(
            full.items.key(int(history.items[-1])),
            names[history.event_types[-1]],
            None if np.isnan(time) else time,
        )
        answer = engine.recommend(
            user_id=full.users.key(user),
            events=[since],
            limit=DEPTH,
            include_seen=cases.include_seen,
        )
        lists.append([_known(full.items.get(item_id)) for item_id in answer.item_ids])
        tick("kinrec", place + 1, len(cases.users))
    return lists


def _known(number: int | None) -> int:
    if number is None:
        raise ValueError("the engine recommended an item outside of its catalogue")
    return number


def _ask_baseline(baseline: Baseline, cases: Cases, tick: Ticker) -> list[list[int]]:
    lists: list[list[int]] = []
    people = np.arange(len(cases.users))
    for start in range(0, len(people), BLOCK):
        histories = _select(cases.histories, people[start : start + BLOCK])
        scores = baseline.scores(histories)
        if not cases.include_seen:
            rows = np.repeat(np.arange(len(histories)), histories.lengths)
            scores[rows, histories.items] = -np.inf
        depth = min(DEPTH, scores.shape[1])
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        # An item with no score is not recommended: it only fills the array.
        for row, items in zip(scores, best, strict=True):
            lists.append(items[row[items] > 0.0].tolist())
        tick(baseline.name, len(lists), len(people))
    return lists


def measure(lists: list[list[int]], targets: NDArray[np.int64], items: int) -> dict[str, float]:
    """Measure ranked lists against one target each; every measure is a mean over people."""
    ranks = metrics.ranks_in(lists, targets)
    measures: dict[str, float] = {}
    named: tuple[tuple[str, Callable[[NDArray[np.int64], int], NDArray[np.float64]]], ...] = (
        ("HR", metrics.hit_rate),
        ("Recall", metrics.hit_rate),
        ("Precision", metrics.precision),
        ("NDCG", metrics.ndcg),
        ("MRR", metrics.mrr),
    )
    for name, function in named:
        for cutoff in CUTOFFS:
            measures[f"{name}@{cutoff}"] = float(function(ranks, cutoff).mean())
    measures["Coverage@10"] = metrics.coverage([row[:10] for row in lists], items)
    return measures


def _write(path: Path, evaluation: Evaluation) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(path, f"cannot be written: {error.strerror or error}") from error
