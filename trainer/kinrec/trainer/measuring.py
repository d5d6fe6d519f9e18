"""Measures the ranked lists of several methods on the same people, with what is chance in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kinrec.trainer import metrics
from kinrec.trainer.asking import DEPTH
from kinrec.trainer.baselines import interactions
from kinrec.trainer.resampling import interval, resampled_means

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories
    from kinrec.trainer.splits import Cases

KINREC = "kinrec"
CUTOFFS = (5, 10, DEPTH)
BEYOND = 10  # the places of the measures beyond accuracy
# The shortest history of each bucket; the next one's shortest ends it.
BUCKETS = (1, 3, 6, 11, 21, 51)

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a method recommended.

    Attributes:
        method: Its name.
        lists: int64, (people, DEPTH), padded.
        settings: Of a baseline: what was chosen on validation.
        validation_ndcg_at_10: Of a baseline: what the settings reached there; 0 without a choice.
        note: What is special about this fit; mostly empty.
    """

    method: str
    lists: NDArray[np.int64]
    settings: dict[str, float] = field(default_factory=dict)
    validation_ndcg_at_10: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far kinrec is from a baseline, person by person.

    Attributes:
        mean: Of kinrec less that of the baseline.
        interval: 95 % of the resampled means lie in it.
    """

    mean: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Result:
    """The measures of one method.

    Attributes:
        method: Its name.
        measures: By name, e.g. ``NDCG@10``.
        intervals: 95 % bootstrap intervals over people of the measures that are means.
        differences: kinrec less this method, of the same measures; empty for kinrec itself.
        by_length: The measures by bucket of history length, e.g. ``3-5``.
        settings: Of a baseline: what was chosen on validation.
        validation_ndcg_at_10: Of a baseline: what the settings reached there; 0 without a choice.
        note: What is special about this fit; mostly empty.
    """

    method: str
    measures: dict[str, float]
    intervals: dict[str, Interval]
    differences: dict[str, Difference]
    by_length: dict[str, dict[str, float]]
    settings: dict[str, float]
    validation_ndcg_at_10: float
    note: str


@dataclass(frozen=True, slots=True)
class Measuring:
    """Measures lists of recommendations.

    Attributes:
        cases: Whom they are for.
        item_users: How many users of the training part did anything with each item, (items,).
        users: The number of users of the training part.
        vectors: The item embeddings of the evaluated model, (items, dims).
    """

    cases: Cases
    item_users: NDArray[np.float32]
    users: int
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, cases: Cases, training_part: Histories, vectors: NDArray[np.float32]) -> Measuring:
        """Count in the training part what does not depend on the method."""
        matrix = interactions(training_part, len(vectors))
        return cls(
            cases,
            np.asarray(matrix.sum(axis=0), np.float32).ravel(),
            int((training_part.lengths > 0).sum()),
            vectors,
        )

    def buckets(self) -> dict[str, NDArray[np.bool_]]:
        """Say who is in each bucket of history length, (people,); buckets without people are none."""
        lengths = self.cases.queries.lengths
        found = {}
        for least, following in zip(BUCKETS, (*BUCKETS[1:], 0), strict=True):
            is_in = (lengths >= least) & ((lengths < following) if following else True)
            if is_in.any():
                found[f"{least}-{following - 1}" if following else f"{least}+"] = is_in
        return found

    def per_person(self, lists: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Give the value of every measure that is a mean, (people,)."""
        hits = metrics.Hits.of(lists, self.cases.targets, self.cases.offsets)
        functions = {
            "HR": hits.hit_rate,
            "Precision": hits.precision,
            "Recall": hits.recall,
            "NDCG": hits.ndcg,
            "MRR": hits.mrr,
            "MAP": hits.average_precision,
        }
        values = {
            f"{name}@{cutoff}": function(cutoff)
            for name, function in functions.items()
            for cutoff in CUTOFFS
        }
        first = lists[:, :BEYOND]
        values[f"Novelty@{BEYOND}"] = metrics.novelty(first, self.item_users, self.users)
        values[f"ILD@{BEYOND}"] = metrics.diversity(first, self.vectors)
        return values

    def over_lists(self, lists: NDArray[np.int64]) -> dict[str, float]:
        """Give the measures of all lists together."""
        first, items = lists[:, :BEYOND], len(self.item_users)
        return {
            f"Coverage@{BEYOND}": metrics.coverage(first, items),
            f"Gini@{BEYOND}": metrics.gini(first, items),
        }

    def measures(
        self, lists: NDArray[np.int64], values: dict[str, NDArray[np.float64]]
    ) -> dict[str, float]:
        """Give every measure of some people's lists, ``values`` being those of ``per_person``."""
        means = {name: float(column.mean()) for name, column in values.items()}
        return means | self.over_lists(lists)

    def results(self, answers: Sequence[Answers]) -> tuple[Result, ...]:
        """Measure the lists of all methods, kinrec's first, on the same resampled people."""
        values = [self.per_person(one.lists) for one in answers]
        means = [resampled_means(np.column_stack(list(columns.values()))) for columns in values]
        buckets = self.buckets()
        results = []
        for one, columns, resampled in zip(answers, values, means, strict=True):
            measures = self.measures(one.lists, columns)
            differences = {
                name: Difference(values[0][name].mean() - measures[name], ends)
                for name, ends in _ends(columns, means[0] - resampled).items()
            }
            by_length = {
                bucket: self.measures(
                    one.lists[people], {name: column[people] for name, column in columns.items()}
                )
                for bucket, people in buckets.items()
            }
            results.append(
                Result(
                    method=one.method,
                    measures=measures,
                    intervals=_ends(columns, resampled),
                    differences={} if one is answers[0] else differences,
                    by_length=by_length,
                    settings=one.settings,
                    validation_ndcg_at_10=one.validation_ndcg_at_10,
                    note=one.note,
                )
            )
        return tuple(results)


def _ends(names: Iterable[str], resampled: NDArray[np.float64]) -> dict[str, Interval]:
    lower, upper = interval(resampled).tolist()
    return {name: (lower[place], upper[place]) for place, name in enumerate(names)}
