"""Fits the network that corrects the blended scores to what people did next, through the engine.

It is fitted listwise (Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML
2007): of a person's best candidates by the blend, the corrected scores, as shares, should name the item
that came next. It begins as no correction at all. People are split in parts, and each is ranked by a
network that is fitted to the others: the one that ranks best then is taken, or none, where the blend
alone is as good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine.blend import Mixes
from kinrec.engine.mixture import Scope, mix
from kinrec.engine.ranker import FEATURES, GREATEST, LIMIT, Blended, features_of, least_examined
from kinrec.engine.steps import finish
from kinrec.trainer.blend import people_of
from kinrec.trainer.metrics import ndcg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.engine.blend import EncodesHistories, Person
    from kinrec.engine.model import Model
    from kinrec.trainer.splits import Targets

MAX_QUESTIONS = 20_000
# Fewer teach nothing that the blend does not know.
MIN_QUESTIONS = 300
CANDIDATES = 100  # of each question: the best by the blend
CUTOFF = 10
PARTS = 3
# What is divided by: popularity to these powers; and what showing more of the catalogue may cost,
# relative: more than the blend may pay, out of what the correction gains.
DISCOUNTS = tuple(step / 20 for step in range(11))
DISCOUNT_PRICE = 0.015
WORTH = 1.005  # the correction must rank better by this factor
BATCH = 128
EPOCHS = 30
LEARNING_RATE = 0.01
LEAST_DEVIATION = 1e-3  # a feature that hardly differs is left as it is


@dataclass(frozen=True, slots=True)
class Shape:
    """What is tried.

    Attributes:
        hidden: Units of the hidden layer.
        decay: The weight decay.
    """

    hidden: int
    decay: float


# The smaller is for few people.
SHAPES = (Shape(8, 1.0), Shape(32, 0.1))


@dataclass(frozen=True, slots=True)
class Questions:
    """The candidates of some people, and which of them came next.

    Attributes:
        features: float32, (n, CANDIDATES, features).
        scores: float32, (n, CANDIDATES), the logarithm of the blended scores, minus infinity where a
            person has fewer candidates.
        log_discount: float32, (n, CANDIDATES), of the item's popularity at power one.
        targets: int64, (n,), the column of what came next; -1 where it is no candidate.
        users: int64, (n,).
        whole: How many are about people as they are; the others, by their last few events alone, are
            learned from, not measured on.
    """

    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    log_discount: NDArray[np.float32]
    targets: NDArray[np.int64]
    users: NDArray[np.int64]
    whole: int

    def __len__(self) -> int:
        return len(self.users)

    def of(self, chosen: NDArray[np.bool_]) -> Questions:
        """Keep some."""
        return Questions(
            self.features[chosen],
            self.scores[chosen],
            self.log_discount[chosen],
            self.targets[chosen],
            self.users[chosen],
            int(chosen[: self.whole].sum()),
        )

    def ndcg(self, correction: NDArray[np.float32] | float = 0.0, discount: float = 0.0) -> float:
        """Give the mean NDCG@10 of the blend with a correction of its logarithms, (n, CANDIDATES).

        Of the questions about people as they are.
        """
        scores = self.scores + correction + discount * self.log_discount
        found = self.targets >= 0
        of_target = np.take_along_axis(scores, np.maximum(self.targets, 0)[:, np.newaxis], axis=1)
        ranks = np.where(found, (scores > of_target).sum(axis=1), CUTOFF)
        return float(ndcg(ranks[: self.whole], CUTOFF).mean())

    def by_discount(self, correction: NDArray[np.float32] | float = 0.0) -> dict[float, float]:
        """Give the mean NDCG@10 with each discount of popular items."""
        return {power: self.ndcg(correction, power) for power in DISCOUNTS}


@dataclass(frozen=True, slots=True)
class FittedRanker:
    """What the fit found.

    Attributes:
        spec: For the manifest.
        discount: The popularity discount to use with it.
        ndcg_at_10: On people whom the network was not fitted to, with the best discount.
        blend_ndcg_at_10: Of the blend alone on the same people, with the best discount for it.
    """

    spec: manifest_pb2.Ranker
    discount: float
    ndcg_at_10: float
    blend_ndcg_at_10: float


def fit_ranker(
    model: Model,
    encoder: EncodesHistories,
    targets: Targets,
    *,
    include_seen: bool,
    seed: int,
) -> FittedRanker | None:
    """Fit the correction of a model's blend.

    Args:
        model: Its blend is fitted.
        encoder: The model's.
        targets: People of the model and the item each did next.
        include_seen: Whether items of the history may be recommended.
        seed: Of the choice of people and of the fit.

    Returns:
        None where the blend alone ranks as well.
    """
    targets = targets.sample(MAX_QUESTIONS, seed)
    asked = ask_all(model, encoder, targets, include_seen=include_seen)
    if (asked.targets[: asked.whole] >= 0).sum() < MIN_QUESTIONS:
        return None
    _, numbers = np.unique(asked.users, return_inverse=True)
    part_of = numbers % PARTS  # all questions about a person are in the same part
    plain = max(asked.by_discount().values())
    best, found = None, plain * WORTH
    for shape in SHAPES:
        correction = np.zeros_like(asked.scores)
        for part in range(PARTS):
            network = fit(asked.of(part_of != part), shape, seed)
            correction[part_of == part] = network.correction(asked.features[part_of == part])
        quality = max(asked.by_discount(correction).values())
        if quality > found:
            best, found = (shape, correction), quality
    if best is None:
        return None
    shape, correction = best
    spec = fit(asked, shape, seed).spec(include_seen=include_seen)
    return FittedRanker(spec, find_discount(asked, correction), found, plain)


def ask_all(
    model: Model, encoder: EncodesHistories, targets: Targets, *, include_seen: bool
) -> Questions:
    """Mix what the sources say about people, and look at the best of it as the engine does."""
    mixes = Mixes(model.manifest.blend)
    log_discount = np.log(model.popularity.discount(1.0))
    rows = [
        _ask(model, person, target, mixes, log_discount, include_seen=include_seen)
        for person, target in people_of(model, encoder, targets)
    ]
    features, scores, discounts, places, users = (
        np.array(part) for part in zip(*rows, strict=True)
    )
    return Questions(features, scores, discounts, places, users, len(targets.users))


def _ask(
    model: Model,
    person: Person,
    target: int,
    mixes: Mixes,
    log_discount: NDArray[np.float32],
    *,
    include_seen: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], int, int]:
    features = np.zeros((CANDIDATES, len(FEATURES)), np.float32)
    scores = np.full(CANDIDATES, -np.inf, np.float32)
    discounts = np.zeros(CANDIDATES, np.float32)
    weights = mixes.of(len(person.history), include_seen=include_seen)
    own = person.history.items
    scope = Scope(None, own[:0] if include_seen else own, CUTOFF, fill=0)
    found = finish(mix(model, person, weights, scope))
    # A target that is not among the best is no candidate: it would be told by its low score.
    chosen = np.argsort(-found.scores, kind="stable")[:CANDIDATES]
    blend = Blended(model, person, weights, found.parts)
    chosen = chosen[found.scores[chosen] >= least_examined(blend)]
    items, blended = found.items[chosen], found.scores[chosen]
    size = len(items)
    if size:
        features[:size] = features_of(blend, items, blended).T
        scores[:size] = np.log(blended)
        discounts[:size] = log_discount[items]
    at = np.flatnonzero(items == target)
    user = -1 if person.user is None else person.user
    return features, scores, discounts, int(at[0]) if len(at) else -1, user


def find_discount(asked: Questions, correction: NDArray[np.float32]) -> float:
    """Find the greatest discount of popular items with which all rank next to best."""
    tried = asked.by_discount(correction)
    enough = max(tried.values()) * (1.0 - DISCOUNT_PRICE)
    return max(power for power, quality in tried.items() if quality >= enough)


def fit(asked: Questions, shape: Shape, seed: int) -> Network:
    """Fit a network to those questions whose answer is a candidate."""
    asked = asked.of(asked.targets >= 0)
    there = asked.features[np.isfinite(asked.scores)]
    deviations = there.std(axis=0)
    deviations[deviations < LEAST_DEVIATION] = 1.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(there.mean(axis=0), deviations, shape.hidden)
        network.descend(asked, shape.decay)
    return network


class Network:
    """The network in torch."""

    def __init__(
        self, means: NDArray[np.float32], deviations: NDArray[np.float32], hidden: int
    ) -> None:
        self._means = means
        self._deviations = deviations
        self.hidden = nn.Linear(len(FEATURES), hidden)
        self.output = nn.Linear(hidden, 1, bias=False)  # a bias would change no order
        nn.init.zeros_(self.output.weight)

    def descend(self, asked: Questions, decay: float) -> None:
        """Fit the weights."""
        inputs = self._inputs(asked.features)
        scores, targets = torch.from_numpy(asked.scores), torch.from_numpy(asked.targets)
        optimizer = torch.optim.AdamW(
            [*self.hidden.parameters(), *self.output.parameters()],
            lr=LEARNING_RATE,
            weight_decay=decay,
        )
        steps = EPOCHS * -(-len(asked) // BATCH)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for _ in range(EPOCHS):
            for batch in torch.split(torch.randperm(len(asked)), BATCH):
                logits = scores[batch] + self._correction(inputs[batch])
                loss = functional.cross_entropy(logits, targets[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
                optimizer.step()
                schedule.step()

    def _inputs(self, features: NDArray[np.float32]) -> torch.Tensor:
        scaled = (features - self._means) / self._deviations
        return torch.from_numpy(np.clip(scaled, -LIMIT, LIMIT))

    def _correction(self, inputs: torch.Tensor) -> torch.Tensor:
        corrected: torch.Tensor = self.output(torch.relu(self.hidden(inputs)))[..., 0]
        return corrected

    @torch.no_grad()
    def correction(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the logarithms of the factors, (n, CANDIDATES)."""
        found: NDArray[np.float32] = self._correction(self._inputs(features)).numpy()
        return np.clip(found, -GREATEST, GREATEST)

    @torch.no_grad()
    def spec(self, *, include_seen: bool) -> manifest_pb2.Ranker:
        """Give what the manifest says of it."""
        return manifest_pb2.Ranker(
            features=FEATURES,
            means=self._means.tolist(),
            deviations=self._deviations.tolist(),
            hidden_weights=self.hidden.weight.T.flatten().tolist(),
            hidden_biases=self.hidden.bias.tolist(),
            output_weights=self.output.weight[0].tolist(),
            include_seen=include_seen,
        )
