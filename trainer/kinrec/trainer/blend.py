"""Fits the weights of the blend for NDCG@10 on held-out events, through the engine's own sources.

The search is coordinate ascent on the measure itself (Metzler & Croft, "Linear Feature-Based Models
for Information Retrieval", 2007): one weight at a time is scaled, and what ranks best is kept. Every
source is asked once for every person; trying other weights is then one product of a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from kinrec.engine.blend import EncodesHistories
    from kinrec.engine.model import Model
    from kinrec.trainer.fit import Targets

MAX_PEOPLE = 4_000
DEPTH = 60  # of each source's proposals: what is further down seldom reaches the first ten
CUTOFF = 10

# A person of so few events is asked about by the last events of people who have more, where the log
# has too few such people.
SHORT_HISTORIES = (1, 3, 8)
MIN_PEOPLE_PER_MIX = 400
MAX_MIXES = 5
# The weights of the whole log count as so many people beside those of a mix.
SHRINKAGE = 500.0

STEPS = (0.0, 0.25, 0.5, 0.75, 1.3, 2.0, 4.0)
MAX_PASSES = 12
LEAST_GAIN = 1e-4  # of the measure, relative: a smaller one ends the search
WORTH = 2e-3  # relative: a source whose absence costs less is left out
SEEN_GAIN = 1.02  # recommending seen items by default must rank better by this factor

# What is tried for each source, and the field of the blend that it sets.
_SHAPES: dict[str, tuple[str, tuple[float, ...]]] = {
    SEQUENCE: ("sequence_temperature", (1.0, 1.5, 2.0, 3.0)),
    SIMILAR_USERS: ("vote_half_life", (2.0, 5.0, 20.0)),
    TRANSITIONS: ("transition_half_life", (1.0, 2.0, 5.0, 15.0)),
    HISTORY: ("history_half_life", (2.0, 10.0, 50.0)),
    FACTORS: ("", (0.0,)),
    POPULARITY: ("", (0.0,)),
}
_COLUMNS = [(source, shape) for source, (_, shapes) in _SHAPES.items() for shape in shapes]


@dataclass(frozen=True, slots=True)
class FittedBlend:
    """What the fit found.

    Attributes:
        blend: The weights by history length, the half-lives and the temperature.
        include_seen: Whether recommending items of a person's own history ranks better.
        ndcg_at_10: Of the blend on the people it was fitted on, in the mode of ``include_seen``.
        of_source: The same of each source alone.
        repeat_share: The share of held-out events whose item was in the history.
        people: How many people it was fitted on.
    """

    blend: manifest_pb2.Blend
    include_seen: bool
    ndcg_at_10: float
    of_source: dict[str, float]
    repeat_share: float
    people: int


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the sources say of some people's candidates; the rows of a person are together.

    Attributes:
        shares: float32, (rows, columns), a column for each source and shape.
        people: int64, (rows,), the person of each row, ascending from 0.
        is_target: bool, (rows,).
        is_seen: bool, (rows,), whether the item is in the person's history.
        lengths: int64, (people,), events of each person's history.
        target_is_seen: bool, (people,).
    """

    shares: NDArray[np.float32]
    people: NDArray[np.int64]
    is_target: NDArray[np.bool_]
    is_seen: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    target_is_seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.lengths)

    def of(self, people: NDArray[np.bool_], *, without_seen: bool = False) -> Proposals:
        """Keep some people, with the rows of seen items or without."""
        rows = people[self.people]
        if without_seen:
            rows &= ~self.is_seen
        numbers = np.cumsum(people) - 1
        return Proposals(
            self.shares[rows],
            numbers[self.people[rows]],
            self.is_target[rows],
            self.is_seen[rows],
            self.lengths[people],
            self.target_is_seen[people],
        )

    def ndcg(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give NDCG@10 of each person, (people,), for weights of the columns."""
        scores = self.shares @ weights
        of_target = np.full(len(self), np.inf, np.float32)
        of_target[self.people[self.is_target]] = scores[self.is_target]
        # Scores of zero say nothing: a target that nobody proposed is not found by them.
        of_target[of_target <= 0.0] = np.inf
        better = scores > of_target[self.people]
        equal = (scores == of_target[self.people]) & ~self.is_target
        ranks = np.bincount(self.people, better + 0.5 * equal, len(self))
        ranks[np.isinf(of_target)] = CUTOFF
        return ndcg(np.floor(ranks).astype(np.int64), CUTOFF)


def fit_blend(
    model: Model, encoder: EncodesHistories, targets: Targets, *, seed: int
) -> FittedBlend | None:
    """Fit the blend of a model to what people of its training part did next.

    Args:
        model: With any valid blend, of which the numbers of neighbours and candidates are kept.
        encoder: The model's.
        targets: People of the model and the item each did next.
        seed: For the choice of people where there are many.

    Returns:
        None if there is nobody to fit on.
    """
    targets = targets.sample(MAX_PEOPLE, seed)
    if not len(targets.users):
        return None
    asked = _ask_about(_people(model, encoder, targets), model)
    everyone = asked.of(np.arange(len(asked)) < len(targets.users))
    left_out = everyone.of(~everyone.target_is_seen, without_seen=True)
    start = model.manifest.blend.mixes[0]
    columns, weights = _search(left_out if len(left_out) else everyone, start.weights)
    with_seen = _ascend(everyone, columns, _all_of(start.weights_with_seen))
    mixes = []
    for least, inside in _mixes_of(asked.lengths):
        group = asked.of(inside)
        group_left_out = group.of(~group.target_is_seen, without_seen=True)
        mixes.append(
            manifest_pb2.Mix(
                min_events=least,
                weights=_named(_shrunk(group_left_out, columns, weights)),
                weights_with_seen=_named(_shrunk(group, columns, with_seen)),
            )
        )
    repeats = float(everyone.target_is_seen.mean())
    without = left_out.ndcg(_spread(columns, weights)).sum() / len(everyone)
    including = float(everyone.ndcg(_spread(columns, with_seen)).mean())
    include_seen = including > SEEN_GAIN * without
    measured = everyone if include_seen else left_out
    best = including if include_seen else without / max(1.0 - repeats, 1e-12)
    return FittedBlend(
        _described(model, columns, mixes),
        include_seen,
        float(best),
        {source: float(measured.ndcg(_spread(columns, _only(source))).mean()) for source in _SHAPES}
        if len(measured)
        else {},
        repeats,
        len(everyone),
    )


def _people(
    model: Model, encoder: EncodesHistories, targets: Targets
) -> Iterator[tuple[Person, int]]:
    """Give each person as stored, and by its last few events where few are known by so few."""
    lengths = np.diff(model.histories.offsets)[targets.users]
    short = [length for length in SHORT_HISTORIES if np.sum(lengths <= length) < MIN_PEOPLE_PER_MIX]
    pairs = list(zip(targets.users.tolist(), targets.items.tolist(), strict=True))
    for user, item in pairs:
        yield Person.stored(model, encoder, user), item
    for length in short:
        for user, item in pairs[: 2 * MIN_PEOPLE_PER_MIX]:
            history = model.histories.user(user, length)
            yield Person(model, encoder, history, user), item


def _ask_about(people: Iterable[tuple[Person, int]], model: Model) -> Proposals:
    parts = [_propose(model, person, target) for person, target in people]
    counts = [len(part.shares) for part in parts]
    return Proposals(
        np.concatenate([part.shares for part in parts]),
        np.repeat(np.arange(len(parts)), counts),
        np.concatenate([part.is_target for part in parts]),
        np.concatenate([part.is_seen for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.target_is_seen for part in parts]),
    )


def _propose(model: Model, person: Person, target: int) -> Proposals:
    """Ask every source in every shape; keep the best of each and the target."""
    blend = manifest_pb2.Blend()
    blend.CopyFrom(model.manifest.blend)
    dense = np.zeros((len(_COLUMNS), model.manifest.item_count), np.float32)
    chosen = [np.array([target])]
    history = person.history
    for row, (source, shape) in zip(dense, _COLUMNS, strict=True):
        field, _ = _SHAPES[source]
        if field:
            setattr(blend, field, shape)
        numbers, shares = ask(source, model, person, blend, blend.candidates)
        np.add.at(row, numbers, shares)
        unseen = np.unique(numbers)
        best = unseen[np.argsort(-row[unseen], kind="stable")[: DEPTH + len(history)]]
        seen = np.isin(best, history.items)
        chosen += [best[~seen][:DEPTH], best[:DEPTH]]
    candidates = np.unique(np.concatenate(chosen))
    is_seen = np.isin(candidates, history.items)
    is_target = candidates == target
    return Proposals(
        np.ascontiguousarray(dense[:, candidates].T),
        np.zeros(len(candidates), np.int64),
        is_target,
        is_seen,
        np.array([len(history)]),
        is_seen[is_target],
    )


def _all_of(weights: Mapping[str, float]) -> dict[str, float]:
    return {source: weights.get(source, 0.0) for source in _SHAPES}


def _search(
    people: Proposals, start: Mapping[str, float]
) -> tuple[dict[str, int], dict[str, float]]:
    """Find the shape of each source, as a column, and the weights."""
    columns = {
        source: next(
            place
            for place, column in enumerate(_COLUMNS)
            if column == (source, shapes[len(shapes) // 2])
        )
        for source, (_, shapes) in _SHAPES.items()
    }
    weights = _ascend(people, columns, _all_of(start))
    for source in _SHAPES:
        tried = {}
        for place, (name, _) in enumerate(_COLUMNS):
            if name == source:
                tried[place] = people.ndcg(_spread({**columns, source: place}, weights)).mean()
        columns[source] = max(tried, key=lambda place: tried[place])
    return columns, _ascend(people, columns, weights)


def _ascend(
    people: Proposals, columns: dict[str, int], start: dict[str, float]
) -> dict[str, float]:
    """Scale one weight at a time while that ranks better, then leave out what adds nothing."""
    if not len(people):
        return start
    weights, best = dict(start), _mean(people, columns, start)
    for _ in range(MAX_PASSES):
        before = best
        for source in _SHAPES:
            for value in _steps(weights[source]):
                tried = _scaled({**weights, source: value})
                quality = _mean(people, columns, tried)
                if quality > best:
                    weights, best = tried, quality
        if best <= before * (1.0 + LEAST_GAIN):
            break
    for source in sorted(weights, key=lambda source: weights[source]):
        fewer = _scaled({**weights, source: 0.0})
        if weights[source] and _mean(people, columns, fewer) >= best * (1.0 - WORTH):
            weights = fewer
    return weights


def _steps(weight: float) -> list[float]:
    if not weight:
        return [0.02, 0.1, 0.3]
    return [weight * step for step in STEPS]


def _mean(people: Proposals, columns: dict[str, int], weights: dict[str, float]) -> float:
    return float(people.ndcg(_spread(columns, weights)).mean())


def _shrunk(
    people: Proposals, columns: dict[str, int], weights: dict[str, float]
) -> dict[str, float]:
    """Fit some people's weights, drawn towards those of all the more the fewer they are."""
    own = _ascend(people, columns, weights)
    trust = len(people) / (len(people) + SHRINKAGE)
    return {source: trust * own[source] + (1.0 - trust) * weights[source] for source in weights}


def _scaled(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {source: weight / total for source, weight in weights.items()} if total else weights


def _spread(columns: dict[str, int], weights: dict[str, float]) -> NDArray[np.float32]:
    spread = np.zeros(len(_COLUMNS), np.float32)
    for source, weight in weights.items():
        spread[columns[source]] = weight
    return spread


def _only(source: str) -> dict[str, float]:
    return {source: 1.0}


def _named(weights: dict[str, float]) -> dict[str, float]:
    return {source: round(weight, 4) for source, weight in weights.items() if weight > 0.0}


def _mixes_of(lengths: NDArray[np.int64]) -> list[tuple[int, NDArray[np.bool_]]]:
    """Split people by history length into parts of like size, none too small to fit on."""
    parts = min(MAX_MIXES, max(1, len(lengths) // MIN_PEOPLE_PER_MIX))
    cuts = np.quantile(lengths, np.arange(1, parts) / parts, method="higher")
    edges = [1, *sorted({int(cut) for cut in cuts if cut > 1})]
    return [
        (least, (lengths >= least) & (lengths < below))
        for least, below in zip(edges, [*edges[1:], np.inf], strict=True)
    ]


def _described(
    model: Model, columns: dict[str, int], mixes: list[manifest_pb2.Mix]
) -> manifest_pb2.Blend:
    blend = manifest_pb2.Blend()
    blend.CopyFrom(model.manifest.blend)
    for source, place in columns.items():
        field, _ = _SHAPES[source]
        if field:
            setattr(blend, field, _COLUMNS[place][1])
    del blend.mixes[:]
    blend.mixes.extend(mixes)
    return blend
