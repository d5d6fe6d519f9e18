"""Measures what is served, over the whole catalogue, beside the classic recommenders.

The model is the one inside the bundle, which was trained without what the split holds out. Each
person is asked about through the engine's own ``recommend``, as a known user with the events since.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from kinrec.engine import Engine
from kinrec.engine.model import Model
from kinrec.engine.store import find_bundle
from kinrec.trainer.asking import ask_baseline, ask_engine
from kinrec.trainer.baselines import METHODS, choose, settings_of
from kinrec.trainer.config import TEMPORAL
from kinrec.trainer.export import EMBEDDINGS
from kinrec.trainer.measuring import KINREC, Answers, Measuring, Result
from kinrec.trainer.output import write_whole
from kinrec.trainer.resampling import LEVEL, RESAMPLES, SEED
from kinrec.trainer.splits import Split, find_cases, hold_out
from kinrec.trainer.training import EVALUATION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kinrec.trainer.asking import Ticker
    from kinrec.trainer.splits import Cases

RESULT = "evaluation.json"


@dataclass(frozen=True, slots=True)
class LogSize:
    """What a bundle was trained on, after cleaning.

    Attributes:
        users: How many.
        items: How many.
        events: How many.
        first: The time of the first event, seconds since 1970 UTC.
        last: The time of the last event.
    """

    users: int
    items: int
    events: int
    first: float
    last: float

    @classmethod
    def of(cls, model: Model) -> LogSize:
        """Read the sizes from a bundle, of whose longest histories only the last events are kept."""
        steps, times = model.manifest.cleaning, model.histories.times
        return cls(
            users=len(model.users),
            items=len(model.items),
            events=steps[-1].left if steps else len(times),
            first=float(times.min()),
            last=float(times.max()),
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of the served answers and of the baselines.

    Attributes:
        version: The bundle's version.
        log: What the bundle was trained on.
        split: ``leave-one-out`` or ``temporal``.
        validation_start: Temporal: seconds since 1970; else None.
        test_start: Temporal: seconds since 1970; else None.
        people: How many people were asked about.
        too_short: See Cases.
        repeats: See Cases.
        targets: How many items should have been recommended, over all people.
        known: How many of them are in the history of who is asked about.
        include_seen: Whether items of the history were recommended.
        people_by_length: The people in each bucket of history length.
        results: kinrec first.
    """

    version: str
    log: LogSize
    split: str
    validation_start: float | None
    test_start: float | None
    people: int
    too_short: int
    repeats: int
    targets: int
    known: int
    include_seen: bool
    people_by_length: dict[str, int]
    results: tuple[Result, ...]

    def result(self, method: str) -> Result:
        """Give the result of one method."""
        return next(result for result in self.results if result.method == method)

    def as_dict(self) -> dict[str, Any]:
        """Give all as plain types."""
        fields = asdict(self)
        results = fields.pop("results")
        return {
            **fields,
            "bootstrap": {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
            "methods": {result.pop("method"): result for result in results},
        }


def evaluate(path: Path, version: str | None, tick: Ticker) -> Evaluation:
    """Evaluate a bundle and write ``evaluation.json`` into it.

    Args:
        path: A store or a bundle.
        version: The version in the store; the newest if None.
        tick: Is told how it goes.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        DataError: There is nobody to ask about.
        OutputError: The result cannot be written.
    """
    bundle = find_bundle(path, version)
    full, trained = Model.open(bundle), Model.open(bundle / EVALUATION)
    split = Split.of(full.manifest)
    cases = find_cases(
        full.histories, split, include_seen=full.manifest.event_spec.include_seen_default
    )
    # A call's products are so small that more threads would mostly wait for each other, three times
    # as long in all; and with one no number depends on how many there are.
    with threadpool_limits(1, "blas"):
        engine = Engine.load(bundle / EVALUATION)
        answers = [Answers(KINREC, ask_engine(engine, full, cases, KINREC, tick))]
        answers += _ask_baselines(full, trained, split, cases, tick)
    measuring = Measuring.of(cases, trained.histories, np.load(bundle / EVALUATION / EMBEDDINGS))
    evaluation = Evaluation(
        version=full.manifest.version,
        log=LogSize.of(full),
        split=split.method,
        validation_start=split.validation_start if split.method == TEMPORAL else None,
        test_start=split.test_start if split.method == TEMPORAL else None,
        people=len(cases),
        too_short=cases.too_short,
        repeats=cases.repeats,
        targets=len(cases.targets),
        known=cases.known,
        include_seen=cases.include_seen,
        people_by_length={name: int(people.sum()) for name, people in measuring.buckets().items()},
        results=measuring.results(answers),
    )
    write_whole(bundle / RESULT, json.dumps(evaluation.as_dict(), indent=2) + "\n")
    return evaluation


def _ask_baselines(
    full: Model, trained: Model, split: Split, cases: Cases, tick: Ticker
) -> Iterator[Answers]:
    """Choose the settings of every baseline, as kinrec's, and ask it about everyone."""
    training_part, targets = hold_out(full.histories, split)
    items = len(full.items)
    for grid in METHODS:
        tick(grid[0].name, 0, len(cases))
        chosen = choose(grid, training_part, items, targets, include_seen=cases.include_seen)
        baseline = chosen.baseline.fit(trained.histories, items)
        lists = ask_baseline(baseline, cases, tick)
        yield Answers(baseline.name, lists, settings_of(baseline), chosen.ndcg_at_10, baseline.note)
