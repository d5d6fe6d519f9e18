"""What every source says about many people's next items, as one matrix that weights can be tried on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine.blend import Person, ask
from kinrec.engine.sources import (
    FACTORS,
    HISTORY,
    POPULARITY,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
)
from kinrec.trainer.metrics import ndcg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from kinrec.engine.model import Model

DEPTH = 60  # of each source's proposals: what is further down seldom reaches the first ten
CUTOFF = 10

# What is tried for each source, and the field of the blend that it sets; none where there is nothing.
SHAPES: dict[str, tuple[str, tuple[float, ...]]] = {
    SEQUENCE: ("sequence_temperature", (1.0, 1.5, 2.0, 3.0)),
    SIMILAR_USERS: ("vote_half_life", (2.0, 5.0, 20.0)),
    TRANSITIONS: ("transition_half_life", (1.0, 2.0, 5.0, 15.0)),
    HISTORY: ("history_half_life", (2.0, 10.0, 50.0)),
    FACTORS: ("", (0.0,)),
    POPULARITY: ("", (0.0,)),
}
_ALL = [(source, shape) for source, (_, shapes) in SHAPES.items() for shape in shapes]


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the sources say of some people's candidates; the rows of a person are together.

    Attributes:
        shares: float32, (rows, columns), a column for each source, or for each of its shapes.
        columns: The column that counts for each source.
        log_discount: float32, (rows,), the logarithm of the item's popularity discount at power one.
        people: int64, (rows,), the person of each row, ascending from 0.
        is_target: bool, (rows,).
        is_seen: bool, (rows,), whether the item is in the person's history.
        lengths: int64, (people,), events of each person's history.
        target_is_seen: bool, (people,).
    """

    shares: NDArray[np.float32]
    columns: Mapping[str, int]
    log_discount: NDArray[np.float32]
    people: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    is_seen: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    target_is_seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lengths)

    def of(self, people: NDArray[np.bool_]) -> Proposals:
        """Keep some people."""
        return self._keep(people, people[self.people])

    def unseen(self) -> Proposals:
        """Keep the items that are not in the history, and the people whose target is not."""
        people = ~self.target_is_seen
        return self._keep(people, people[self.people] & ~self.is_seen)

    def _keep(self, people: NDArray[np.bool_], rows: NDArray[np.bool_]) -> Proposals:
        numbers = np.cumsum(people) - 1
        return Proposals(
            self.shares[rows],
            self.columns,
            self.log_discount[rows],
            numbers[self.people[rows]],
            self.is_target[rows],
            self.is_seen[rows],
            self.lengths[people],
            self.target_is_seen[people],
        )

    def narrowed(self, shapes: Mapping[str, float]) -> Proposals:
        """Keep, while all shapes are there, the columns of one shape of each source."""
        places = [_ALL.index(column) for column in shapes.items()]
        shares = np.ascontiguousarray(self.shares[:, places])
        return replace(self, shares=shares, columns={name: i for i, name in enumerate(shapes)})

    def discounted(self, power: float) -> Proposals:
        """Divide all shares by a power of the item's popularity, as the engine does the scores."""
        factors = np.exp(self.log_discount * np.float32(power))
        return replace(self, shares=self.shares * factors[:, np.newaxis])

    def ndcg(self, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """Give NDCG@10 of each person, (people,), for weights of the sources."""
        spread = np.zeros(self.shares.shape[1], np.float32)
        for source, weight in weights.items():
            spread[self.columns[source]] = weight
        scores = self.shares @ spread
        of_target = np.full(len(self), np.inf, np.float32)
        of_target[self.people[self.is_target]] = scores[self.is_target]
        # Scores of zero say nothing: a target that nobody proposed is not found by them.
        of_target[of_target <= 0.0] = np.inf
        better = scores > of_target[self.people]
        equal = (scores == of_target[self.people]) & ~self.is_target
        ranks = np.bincount(self.people, better + 0.5 * equal, len(self))
        ranks[np.isinf(of_target)] = CUTOFF
        return ndcg(np.floor(ranks).astype(np.int64), CUTOFF)

    def mean_ndcg(self, weights: Mapping[str, float]) -> float:
        """Give the mean NDCG@10 for weights of the sources; 0 without people."""
        return float(self.ndcg(weights).mean()) if len(self) else 0.0


def collect(people: Iterable[tuple[Person, int]], model: Model) -> Proposals:
    """Ask every source in every shape about people, each with the item that came next."""
    log_discount = np.log(model.popularity.discount(1.0))
    parts = [_propose(model, person, target, log_discount) for person, target in people]
    counts = [len(part.shares) for part in parts]
    return Proposals(
        np.concatenate([part.shares for part in parts]),
        parts[0].columns,
        np.concatenate([part.log_discount for part in parts]),
        np.repeat(np.arange(len(parts)), counts),
        np.concatenate([part.is_target for part in parts]),
        np.concatenate([part.is_seen for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.target_is_seen for part in parts]),
    )


def _propose(
    model: Model, person: Person, target: int, log_discount: NDArray[np.float32]
) -> Proposals:
    """Keep the best of each source, seen items and others apart, and the target."""
    blend = manifest_pb2.Blend()
    blend.CopyFrom(model.manifest.blend)
    dense = np.zeros((len(_ALL), model.manifest.item_count), np.float32)
    chosen = [np.array([target])]
    history = person.history
    for row, (source, shape) in zip(dense, _ALL, strict=True):
        field, _ = SHAPES[source]
        if field:
            setattr(blend, field, shape)
        numbers, shares = ask(source, model, person, blend, blend.candidates)
        np.add.at(row, numbers, shares)
        proposed = np.unique(numbers)
        best = proposed[np.argsort(-row[proposed], kind="stable")[: DEPTH + len(history)]]
        seen = np.isin(best, history.items)
        chosen += [best[~seen][:DEPTH], best[:DEPTH]]
    candidates = np.unique(np.concatenate(chosen))
    is_seen = np.isin(candidates, history.items)
    is_target = candidates == target
    return Proposals(
        np.ascontiguousarray(dense[:, candidates].T),
        {},
        log_discount[candidates],
        np.zeros(len(candidates), np.int64),
        is_target,
        is_seen,
        np.array([len(history)]),
        is_seen[is_target],
    )
