"""The fit of the correction: what it learns, when it is left out, and that the engine does the same."""

import numpy as np
import pytest

from kinrec.engine.model import Model
from kinrec.engine.ranker import FEATURES, Ranker
from kinrec.engine.store import find_bundle
from kinrec.trainer import ranker
from kinrec.trainer.ranker import Questions, Shape, ask_all, find_discount, fit, fit_ranker
from kinrec.trainer.splits import hold_out


def questions(count, rule, candidates=20, seed=0):
    """Ask about people whose next item is the candidate of the greatest ``rule`` of its features."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, candidates, len(FEATURES))).astype(np.float32)
    scores = features[..., 0] * 0.1
    targets = np.argmax(rule(features), axis=1)
    popularity = rng.uniform(0.0, 5.0, size=scores.shape).astype(np.float32)
    return Questions(features, scores, -popularity, targets, np.arange(count), count)


def both(features):
    """Two features must agree: no weighted sum of them says so."""
    return features[..., 3] * features[..., 4]


def test_it_learns_which_features_must_agree():
    """Where the product of two decides, the fitted network ranks far better than the blend."""
    asked = questions(600, both)
    unknown = questions(300, both, seed=1)
    found = fit(asked, Shape(16, 0.01), seed=1)
    assert unknown.ndcg() < 0.4
    assert unknown.ndcg(found.correction(unknown.features)) > 0.7


def test_the_engine_corrects_as_the_fit_does():
    """What the manifest says gives the same factors."""
    asked = questions(400, both)
    network = fit(asked, Shape(8, 0.1), seed=1)
    spec = network.spec(include_seen=True)
    assert spec.include_seen
    factors = Ranker(spec).factors(asked.features[0].T)
    assert factors == pytest.approx(np.exp(network.correction(asked.features[0])), rel=1e-4)


def test_missing_candidates_and_targets_count_for_nothing():
    """Whoever has few candidates is learned from, whose target is none of them is ranked as missed."""
    asked = questions(400, both)
    scores = asked.scores.copy()
    scores[:, 15:] = -np.inf
    targets = np.where(asked.targets < 15, asked.targets, -1)
    some = Questions(asked.features, scores, asked.log_discount, targets, asked.users, 400)
    correction = fit(some, Shape(8, 0.1), seed=1).correction(some.features)
    assert np.isfinite(correction).all()
    missed = targets < 0
    assert 0 < missed.sum() < 400
    assert some.of(missed).ndcg(correction[missed]) == 0.0


def test_the_discount_is_the_greatest_that_costs_next_to_nothing():
    """Popular items are discounted after the correction while all rank within 1.5 % of the best."""
    asked = questions(200, lambda features: features[..., 0])
    asked.log_discount[:] = -1.0
    assert find_discount(asked, np.zeros_like(asked.scores)) == max(ranker.DISCOUNTS)
    asked.log_discount[:] = 0.0
    rows = np.arange(200)
    asked.log_discount[rows, asked.targets] = -100.0
    assert find_discount(asked, np.zeros_like(asked.scores)) == 0.0


@pytest.fixture(scope="module")
def asked(bundle_store):
    """The model inside the trained bundle, and whom to ask."""
    trained = find_bundle(bundle_store)
    full, model = Model.open(trained), Model.open(trained / "evaluation")
    return model, hold_out(full.histories)[1]


def test_people_are_asked_as_the_engine_answers(asked):
    """The candidates are what the blend finds, without what the person has, the target among them."""
    model, targets = asked
    found = ask_all(model, model.encoder, targets, include_seen=False)
    assert found.whole == len(targets.users)
    # The last few events of some are asked about too.
    events = found.features[:, 0, FEATURES.index("events")]
    assert {0.0, np.log(np.float32(3))} <= set(events[found.whole :].tolist())
    assert found.users[found.whole :].tolist()[: len(targets.users)] == targets.users.tolist()
    hits = np.flatnonzero(found.targets >= 0)
    assert len(hits)
    blend, seen = FEATURES.index("blend"), FEATURES.index("seen")
    there = np.isfinite(found.scores)
    assert found.features[..., blend][there] == pytest.approx(found.scores[there], abs=1e-2)
    assert not found.features[..., seen].any()
    with_seen = ask_all(model, model.encoder, targets, include_seen=True)
    assert with_seen.features[..., seen].any()


def test_too_few_people_teach_nothing(asked, monkeypatch):
    """A log of few people keeps the plain blend."""
    model, targets = asked
    encoder = model.encoder
    monkeypatch.setattr(ranker, "MIN_QUESTIONS", len(targets.users) + 1)
    assert fit_ranker(model, encoder, targets, include_seen=False, seed=1) is None


@pytest.mark.parametrize("kind", ["learned", "chance"])
def test_it_is_kept_where_it_ranks_others_better(asked, monkeypatch, kind):
    """Only what ranks people better whom it was not fitted to is kept, the same with the same seed."""
    rule = both if kind == "learned" else lambda f: np.random.default_rng(5).random(f.shape[:2])
    monkeypatch.setattr(ranker, "ask_all", lambda *_, **__: questions(600, rule))
    model, targets = asked
    encoder = model.encoder
    found = fit_ranker(model, encoder, targets, include_seen=False, seed=1)
    if kind == "chance":
        assert found is None
        return
    assert found.ndcg_at_10 > 1.3 * found.blend_ndcg_at_10
    assert found == fit_ranker(model, encoder, targets, include_seen=False, seed=1)
