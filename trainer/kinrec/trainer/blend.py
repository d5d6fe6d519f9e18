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
from kinrec.engine.blend import Person
from kinrec.engine.sources import POPULARITY
from kinrec.trainer.proposals import SHAPES, collect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from kinrec.engine.blend import EncodesHistories
    from kinrec.engine.model import Model
    from kinrec.trainer.proposals import Proposals
    from kinrec.trainer.ranker import FittedRanker
    from kinrec.trainer.splits import Targets

MAX_PEOPLE = 2_000

# A person of so few events is asked about by the last events of people who have more, where the log
# has too few such people.
SHORT_HISTORIES = (1, 3, 8)
MIN_PEOPLE_PER_MIX = 400
MAX_MIXES = 5
# The weights of the whole log count as so many people beside those of a mix.
SHRINKAGE = 500.0

STEPS = (0.0, 0.25, 0.5, 0.75, 1.3, 2.0, 4.0)
FIRST_STEPS = (0.02, 0.1, 0.3)  # of a weight that is zero
MAX_PASSES = 12
LEAST_GAIN = 1e-4  # of the measure, relative: a smaller one ends the search
WORTH = 2e-3  # relative: a source whose absence costs less is left out
MOSTLY_REPEATS = 0.5  # the share of repeats above which the half-lives go by them
DISCOUNTS = (0.0, 0.1, 0.2)
DISCOUNT_PRICE = 0.01  # relative: what showing more of the catalogue may cost
SEEN_GAIN = 1.02  # recommending seen items by default must rank better by this factor

Weights = dict[str, float]


@dataclass(frozen=True, slots=True)
class FittedBlend:
    """What the fit found.

    Attributes:
        blend: The weights by history length, the half-lives and the temperature.
        include_seen: Whether recommending items of a person's own history ranks better.
        ndcg_at_10: Of the blend on the people it was fitted on, in the mode of ``include_seen``.
        of_source: The same of each source alone.
        without_source: The same without each source that has a weight, the others fitted anew.
        repeat_share: The share of held-out events whose item was in the history.
        people: On how many held-out events it was fitted, several of some people.
        ranker: What corrects it; None for nothing.
    """

    blend: manifest_pb2.Blend
    include_seen: bool
    ndcg_at_10: float
    of_source: Weights
    without_source: Weights
    repeat_share: float
    people: int
    ranker: FittedRanker | None = None


def fit_blend(
    model: Model, encoder: EncodesHistories, targets: Targets, *, seed: int
) -> FittedBlend | None:
    """Fit the blend of a model to what people of its training part did next.

    Args:
        model: With any valid blend: the first of its mixes is where the search starts, and its
            numbers of neighbours and candidates are kept.
        encoder: The model's.
        targets: People of the model and the item each did next.
        seed: For the choice of people where there are many.

    Returns:
        None if there is nobody to fit on.
    """
    targets = targets.sample(MAX_PEOPLE, seed)
    if not len(targets.users):
        return None
    asked = collect(people_of(model, encoder, targets), model)
    as_they_are = np.arange(len(asked)) < len(targets.users)
    start = model.manifest.blend.mixes[0]
    repeat_share = float(asked.of(as_they_are).target_is_seen.mean())
    # The half-lives are the same with seen items and without: they go by what most people need.
    if repeat_share > MOSTLY_REPEATS:
        shapes = _find_shapes(asked.of(as_they_are), _of_all(start.weights_with_seen))
    else:
        shapes = _find_shapes(asked.of(as_they_are).unseen(), _of_all(start.weights))
    asked = asked.narrowed(shapes)
    everyone = asked.of(as_they_are)
    unseen = everyone.unseen()
    weights = _fit(unseen, _of_all(start.weights))
    with_seen = _fit(everyone, _of_all(start.weights_with_seen))
    # A person whose next item was seen cannot be answered where seen items are left out.
    without = unseen.ndcg(weights).sum() / len(everyone) if len(unseen) else 0.0
    include_seen = bool(everyone.mean_ndcg(with_seen) > SEEN_GAIN * without)
    discount = _find_discount(*((everyone, with_seen) if include_seen else (unseen, weights)))
    asked, everyone, unseen = (people.discounted(discount) for people in (asked, everyone, unseen))
    weights = _fit(unseen, _of_all(weights))
    with_seen = _fit(everyone, _of_all(with_seen))
    mixes = [
        manifest_pb2.Mix(
            min_events=least,
            weights=_named(_shrunk(asked.of(inside).unseen(), weights)),
            weights_with_seen=_named(_shrunk(asked.of(inside), with_seen)),
        )
        for least, inside in _mixes_of(asked.lengths)
    ]
    measured, fitted = (everyone, with_seen) if include_seen else (unseen, weights)
    return FittedBlend(
        blend=_described(model, shapes, discount, mixes),
        include_seen=include_seen,
        ndcg_at_10=measured.mean_ndcg(fitted),
        of_source={source: measured.mean_ndcg({source: 1.0}) for source in SHAPES},
        without_source={
            source: measured.mean_ndcg(_ascend(measured, _without(source, fitted)))
            for source in fitted
        },
        repeat_share=repeat_share,
        people=len(everyone),
    )


def people_of(
    model: Model, encoder: EncodesHistories, targets: Targets
) -> Iterator[tuple[Person, int]]:
    """Give everyone asked about and what came next, as they are, then by their last few events.

    The latter for as few events as few of them have: whoever is new to a service has no more.
    """
    lengths, most = targets.queries.lengths, model.reader.max_history
    short = [length for length in SHORT_HISTORIES if np.sum(lengths <= length) < MIN_PEOPLE_PER_MIX]
    pairs = list(zip(targets.users.tolist(), targets.items.tolist(), strict=True))
    for length, asked in [
        (most, pairs),
        *((few, pairs[: 2 * MIN_PEOPLE_PER_MIX]) for few in short),
    ]:
        for place, (user, item) in enumerate(asked):
            yield Person(model, encoder, targets.queries.user(place, length), user), item


def _of_all(weights: Mapping[str, float]) -> Weights:
    return {source: weights.get(source, 0.0) for source in SHAPES}


def _find_shapes(people: Proposals, start: Weights) -> dict[str, float]:
    """Choose the half-life or temperature of one source after the other."""
    shapes = {source: values[len(values) // 2] for source, (_, values) in SHAPES.items()}
    weights = _ascend(people.narrowed(shapes), start)
    for source, (_, values) in SHAPES.items():
        tried = {
            value: people.narrowed({**shapes, source: value}).mean_ndcg(weights) for value in values
        }
        shapes[source] = max(values, key=lambda value: tried[value])
    return shapes


def _fit(people: Proposals, start: Weights) -> Weights:
    """Find the weights that rank best, of no more sources than it takes.

    The ascent ends where no single step helps, so it is begun at two places.

    Returns:
        The weights above zero.
    """
    starts = (start, dict.fromkeys(start, 1.0))
    weights = max((_ascend(people, one) for one in starts), key=people.mean_ndcg)
    best = people.mean_ndcg(weights)
    for source in sorted(weights, key=lambda source: weights[source]):
        fewer = _ascend(people, _without(source, weights))
        quality = people.mean_ndcg(fewer)
        if fewer and quality >= best * (1.0 - WORTH):
            weights, best = fewer, max(best, quality)
    return {source: weight for source, weight in weights.items() if weight}


def _ascend(people: Proposals, start: Weights) -> Weights:
    """Scale one weight at a time while that ranks better. What ``start`` does not name stays out."""
    weights = _scaled(start)
    if not len(people):
        return weights
    best = people.mean_ndcg(weights)
    for _ in range(MAX_PASSES):
        before = best
        for source in start:
            now = weights[source]
            for value in [now * step for step in STEPS] if now else FIRST_STEPS:
                tried = _scaled({**weights, source: value})
                quality = people.mean_ndcg(tried)
                if quality > best:
                    weights, best = tried, quality
        if best <= before * (1.0 + LEAST_GAIN):
            break
    return weights


def _find_discount(people: Proposals, start: Weights) -> float:
    """Find the greatest discount with which, the weights fitted to it, all rank next to best."""
    tried: dict[float, float] = {}
    for power in DISCOUNTS:
        discounted = people.discounted(power)
        weights = {source: start.get(source, 0.0) for source in people.columns}
        tried[power] = discounted.mean_ndcg(_ascend(discounted, weights))
    enough = max(tried.values()) * (1.0 - DISCOUNT_PRICE)
    # Without anything to go by there is none.
    return max(power for power, quality in tried.items() if quality >= enough) if enough else 0.0


def _shrunk(people: Proposals, weights: Weights) -> Weights:
    """Fit some people's weights, drawn towards those of all the more the fewer they are.

    Popularity, which costs nothing to ask, can help those of whom little is known.
    """
    start = {POPULARITY: 0.0, **weights}
    own = _ascend(people, start)
    trust = len(people) / (len(people) + SHRINKAGE)
    return {source: trust * own[source] + (1.0 - trust) * start[source] for source in start}


def _without(source: str, weights: Weights) -> Weights:
    return {other: weight for other, weight in weights.items() if other != source}


def _scaled(weights: Weights) -> Weights:
    total = sum(weights.values())
    return {source: weight / total for source, weight in weights.items()} if total else weights


def _named(weights: Weights) -> Weights:
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
    model: Model, shapes: Mapping[str, float], discount: float, mixes: list[manifest_pb2.Mix]
) -> manifest_pb2.Blend:
    blend = manifest_pb2.Blend()
    blend.CopyFrom(model.manifest.blend)
    blend.popularity_discount = discount
    for source, (field, _) in SHAPES.items():
        if field:
            setattr(blend, field, shapes[source])
    del blend.mixes[:]
    blend.mixes.extend(mixes)
    return blend
