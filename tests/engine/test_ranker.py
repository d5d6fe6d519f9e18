"""The network that corrects blended scores: its arithmetic, what it reads, and where it takes part."""

import numpy as np
import pytest

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import Engine, Event, Options
from kinrec.engine.blend import Person
from kinrec.engine.mixture import Scope, mix
from kinrec.engine.ranker import (
    EXAMINED_DEPTH,
    FEATURES,
    GREATEST,
    LEAST_COUNT,
    LEAST_EXAMINED,
    LEAST_SHARE,
    Blended,
    Ranker,
    check_ranker,
    features_of,
    least_examined,
)
from kinrec.engine.sources import softmax
from kinrec.engine.steps import finish

INPUTS = len(FEATURES)
WEIGHTS = {"sequence": 0.5, "transitions": 0.3, "similar_users": 0.2}


def network(seed=0, hidden=3, include_seen=False, **weights):
    """Describe a network: one drawn at random, or one that reads the named features alone."""
    rng = np.random.default_rng(seed)
    into = rng.normal(size=(INPUTS, hidden))
    if weights:
        into = np.zeros((INPUTS, hidden))
        for name, weight in weights.items():
            into[FEATURES.index(name), :2] = weight, -weight
    return manifest_pb2.Ranker(
        features=FEATURES,
        means=[0.0] * INPUTS if weights else rng.normal(size=INPUTS),
        deviations=[1.0] * INPUTS if weights else rng.uniform(0.5, 2.0, INPUTS),
        hidden_weights=into.ravel(),
        hidden_biases=[0.0] * hidden if weights else rng.normal(size=hidden),
        # relu(x) - relu(-x) is x.
        output_weights=[1.0, -1.0, 0.0] if weights else rng.normal(size=hidden),
        include_seen=include_seen,
    )


@pytest.fixture(scope="module")
def blended(model, users):
    """Some person, and what the sources say to it."""
    person = Person.stored(model, model.encoder, model.users.get(users[3]))
    nothing = np.zeros(0, np.int64)
    mixture = finish(mix(model, person, WEIGHTS, Scope(None, nothing, 10, 0)))
    return Blended(model, person, WEIGHTS, mixture.parts), mixture


def test_the_arithmetic_is_that_of_the_manifest():
    """A factor is exp(o . relu(W' x + b)) of standardized features, both within limits."""
    spec = network()
    features = np.random.default_rng(1).normal(scale=4.0, size=(50, INPUTS)).astype(np.float32)
    inputs = np.clip((features - np.array(spec.means)) / np.array(spec.deviations), -4.0, 4.0)
    into = np.array(spec.hidden_weights).reshape(INPUTS, 3)
    hidden = np.maximum(inputs @ into + np.array(spec.hidden_biases), 0.0)
    logarithms = np.clip(hidden @ np.array(spec.output_weights), -5.0, 5.0)
    assert (np.abs(logarithms) == 5.0).any()
    assert (np.abs(logarithms) < 5.0).any()

    assert Ranker(spec).factors(features.T) == pytest.approx(np.exp(logarithms), rel=1e-4)


def test_what_is_read_of_an_item(blended, model):
    """Each feature is what its name says, counted here one item at a time."""
    all_of_it, mixture = blended
    items, scores = mixture.items, mixture.scores
    found = dict(zip(FEATURES, features_of(all_of_it, items, scores), strict=True))
    person = all_of_it.person
    history = person.history.items
    recent = history[-20:][::-1]
    decay = 0.5 ** (np.arange(len(recent)) / model.manifest.blend.transition_half_life)
    shares = dict(mixture.parts)
    logits = person.next_items(model.manifest.blend.candidates)[1]
    for place in (0, len(items) // 2, len(items) - 1):
        item = int(items[place])
        assert found["blend"][place] == pytest.approx(np.log(scores[place] + 1e-7), rel=1e-5)
        assert found["events"][place] == pytest.approx(np.log(len(history)))
        assert found["seen"][place] == pytest.approx(_return_to(model, person, item))
        for source in ("transitions", "similar_users"):
            numbers, values = shares[source]
            share = values[numbers == item].sum() / WEIGHTS[source] + LEAST_SHARE
            assert found[source][place] == pytest.approx(np.log(share), rel=1e-4)
        assert found["factors"][place] == pytest.approx(np.log(LEAST_SHARE))
        vectors = model.item_vectors
        chance = vectors[item] @ person.vector - np.log(np.exp(logits).sum())
        assert found["sequence"][place] == pytest.approx(chance, abs=1e-4)
        near = vectors[recent] @ vectors[item]
        assert found["like_last"][place] == pytest.approx(near[0], abs=1e-5)
        assert found["like_any"][place] == pytest.approx(near.max(), abs=1e-5)
        counts = np.zeros(4)
        for event, own in zip(decay, recent.tolist(), strict=True):
            span = slice(*model.transitions.offsets[own : own + 2].tolist())
            at = np.flatnonzero(model.transitions.items[span] == item)
            if len(at):
                counts += [*(model.evidence.counts[span][at[0]] * event), 1]
        for name, count in zip(("after", "next", "together", "support"), counts, strict=True):
            assert found[name][place] == pytest.approx(np.log(count + LEAST_COUNT), abs=1e-4)


def _return_to(model, person, item):
    """How often people come back to an item after its latest event, beside the type where most do."""
    at = np.flatnonzero(person.history.items == item)
    if not len(at):
        return 0.0
    rates = model.manifest.blend.return_rates
    return rates[person.history.event_types[at[-1]]] / max(rates)


def test_an_item_is_corrected_whatever_the_others_are(blended):
    """Of fewer items each has the score that it has among all, so a filter changes no order."""
    all_of_it, mixture = blended
    ranker = Ranker(network())
    whole = ranker.correct(all_of_it, mixture.items, mixture.scores)
    some = slice(None, None, 3)
    part = ranker.correct(all_of_it, mixture.items[some], mixture.scores[some])
    assert part == pytest.approx(whole[some], rel=1e-4)
    assert len(set(np.round(whole / mixture.scores, 5))) > 10


def test_what_hardly_anything_speaks_for_comes_last(blended):
    """Items of too low a score are not looked at and take the least factor."""
    all_of_it, mixture = blended
    ranker, items = Ranker(network()), mixture.items
    least = least_examined(all_of_it)
    scores = np.where(np.arange(len(items)) % 2, least / 2, mixture.scores + least)
    found = ranker.correct(all_of_it, items, scores.astype(np.float32))
    assert found[1::2] == pytest.approx(least / 2 * np.exp(-GREATEST))
    assert (found[::2] >= found[1::2].max()).all()
    nothing = np.zeros(len(items), np.float32)
    assert ranker.correct(all_of_it, items, nothing).tolist() == nothing.tolist()


def test_the_best_of_the_sequence_are_looked_at_and_little_else(blended, model):
    """The bound is what the sequence alone gives the 100th of all items, and never under the least."""
    all_of_it, mixture = blended
    blend = model.manifest.blend
    _, shares = softmax(all_of_it.person.next_items(blend.candidates), blend.sequence_temperature)
    least = least_examined(all_of_it)
    assert least == pytest.approx(WEIGHTS["sequence"] * shares[EXAMINED_DEPTH - 1])
    assert least > LEAST_EXAMINED
    assert EXAMINED_DEPTH <= (mixture.scores >= least).sum() < len(mixture.items)
    others = all_of_it._replace(weights={"transitions": 1.0})
    assert least_examined(others) == np.float32(LEAST_EXAMINED)


@pytest.fixture
def corrected(copy):
    """Give an engine of the bundle whose blend a network corrects, and one without a correction."""

    def load(spec):
        engines = []
        for ranker in (spec, None):

            def change(manifest, ranker=ranker):
                manifest["blend"].pop("ranker", None)
                manifest["blend"]["popularity_discount"] = 0.0
                if ranker is not None:
                    manifest["blend"]["ranker"] = {
                        field.name: list(value) if field.is_repeated else value
                        for field, value in ranker.ListFields()
                    }

            copy.edit(change)
            engines.append(Engine.load(copy.path))
        return engines

    return load


EVENTS = [Event("i7"), Event("i9"), Event("i20")]


def scores_of(engine, *, include_seen=False, **asked):
    """Recommend to somebody, and give the score of each item in order."""
    answer = engine.recommend(events=EVENTS, include_seen=include_seen, **asked)
    return dict(zip(answer.item_ids, answer.scores, strict=True))


def test_a_bundle_with_a_network_serves_corrected_scores(corrected, model):
    """Scores are the blend's times the factor; a network that reads popularity makes it count."""
    with_it, without = corrected(network(popularity=0.5))
    before = scores_of(without, limit=100)
    after = scores_of(with_it, limit=20)
    assert list(after.values()) == sorted(after.values(), reverse=True)
    for item_id, score in after.items():
        popularity = model.popularity.logarithms[model.items.get(item_id)]
        expected = before[item_id] * np.exp(0.5 * min(popularity, 4.0))
        assert score == pytest.approx(expected, rel=1e-3)
    assert list(after) != list(before)[:20]
    # A list of some is the whole list without the others.
    some = tuple(after)[::2]
    filtered = scores_of(with_it, limit=10, options=Options(allow_item_ids=some))
    assert list(filtered) == list(some)


def test_only_the_answers_and_weights_it_was_fitted_to_are_corrected(corrected):
    """Answers with seen items, and other weights, are what they are without it."""
    with_it, without = corrected(network(popularity=0.5))
    other = {"transitions": 1.0}
    assert scores_of(with_it, include_seen=True) == scores_of(without, include_seen=True)
    assert scores_of(with_it.with_weights(other)) == scores_of(without.with_weights(other))
    with_it, without = corrected(network(popularity=0.5, include_seen=True))
    assert scores_of(with_it) == scores_of(without)
    assert scores_of(with_it, include_seen=True) != scores_of(without, include_seen=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: spec.features.pop(), "reads other features"),
        (lambda spec: spec.means.pop(), "do not fit each other"),
        (lambda spec: spec.hidden_weights.pop(), "do not fit each other"),
        (lambda spec: spec.output_weights.append(1.0), "do not fit each other"),
        (lambda spec: spec.hidden_biases.__setitem__(0, np.nan), "not finite"),
        (lambda spec: spec.output_weights.__setitem__(0, np.inf), "not finite"),
        (lambda spec: spec.deviations.__setitem__(2, 0.0), "above zero"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(change, told):
    """Its sizes, numbers and features are looked at before a bundle is served."""
    spec = network()
    assert check_ranker(spec) is None
    change(spec)
    assert told in check_ranker(spec)


def test_a_bundle_with_an_unusable_network_is_refused(copy):
    """The error names the manifest and what is wrong there."""
    copy.edit(lambda manifest: manifest["blend"].update(ranker={"features": ["luck"]}))
    assert "blend.ranker reads other features" in copy.refusal()


def test_rates_that_are_not_one_for_each_type_are_refused(copy):
    """A manifest says how often people return after every type, or after none."""
    copy.edit(lambda manifest: manifest["blend"].update(return_rates=[0.5]))
    assert "blend.return_rates must be" in copy.refusal()
