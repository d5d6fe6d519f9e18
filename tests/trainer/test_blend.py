"""The fit of the blend: what ranks best on held-out events, by hand and on a trained model."""

import dataclasses

import numpy as np
import pytest

from kinrec.engine.model import Model
from kinrec.engine.sources import HISTORY, POPULARITY, SEQUENCE, SOURCES
from kinrec.engine.store import find_bundle
from kinrec.trainer import blend
from kinrec.trainer.blend import fit_blend
from kinrec.trainer.proposals import Proposals
from kinrec.trainer.splits import hold_out


def proposals(*people):
    """Make proposals of two columns: of each person rows of (first, second, is_target, popularity)."""
    rows = [(person, *row) for person, all_rows in enumerate(people) for row in all_rows]
    return Proposals(
        np.array([row[1:3] for row in rows], np.float32),
        {SEQUENCE: 0, POPULARITY: 1},
        -np.log(np.array([row[4] if len(row) > 4 else 1 for row in rows], np.float32)),
        np.array([row[0] for row in rows]),
        np.array([row[3] for row in rows], bool),
        np.zeros(len(rows), bool),
        np.full(len(people), 5),
        np.zeros(len(people), bool),
    )


def test_ndcg_of_each_person():
    """The first place gives 1, the third 1/2, a target that nobody proposed 0."""
    asked = proposals(
        [(0.9, 0.0, 1), (0.5, 0.0, 0)],
        [(0.1, 0.0, 1), (0.5, 0.0, 0), (0.3, 0.0, 0)],
        [(0.0, 0.0, 1), (0.5, 0.0, 0)],
    )

    assert asked.ndcg({SEQUENCE: 1.0}).tolist() == [1.0, 0.5, 0.0]


def test_equal_scores_are_no_rank_of_ten_out_of_ten():
    """A source that gives all the same score does not look like one that knows."""
    asked = proposals([(0.5, 0.0, 1), *[(0.5, 0.0, 0)] * 6])

    assert asked.ndcg({SEQUENCE: 1.0})[0] == pytest.approx(1 / np.log2(3 + 2))


def test_popular_items_are_discounted_while_it_costs_next_to_nothing():
    """The greatest power is taken that ranks within a hundredth of the best, with weights of its own."""
    # The target is behind an item four times as popular, and before one that is as rare.
    helped = [(0.5, 0.0, 1, 2), (0.6, 0.0, 0, 8), (0.1, 0.0, 0, 2)]
    # Where the target is the popular item, a rare one overtakes it below 4 ** 0.2 = 1.32.
    hurt = [(0.65, 0.0, 1, 8), (0.52, 0.0, 0, 2)]
    weights = {SEQUENCE: 1.0}
    assert proposals(helped).ndcg(weights)[0] < 1.0
    assert proposals(helped).discounted(0.2).ndcg(weights)[0] == 1.0
    assert blend._find_discount(proposals(helped), weights) == max(blend.DISCOUNTS)
    assert blend._find_discount(proposals(hurt), weights) == 0.1
    # The other source, which is given weight, puts the target before the rare item again.
    mended = [(0.65, 0.4, 1, 8), (0.52, 0.0, 0, 2)]
    assert blend._find_discount(proposals(mended), weights) == max(blend.DISCOUNTS)
    assert blend._find_discount(proposals([(0.5, 0.0, 1, 9), (0.49, 0.0, 0, 1)]), weights) == 0.0
    # Where nothing is found there is nothing to go by.
    assert blend._find_discount(proposals([(0.0, 0.0, 1, 9), (0.5, 0.0, 0, 1)]), weights) == 0.0
    assert blend._find_discount(proposals(), weights) == 0.0


@pytest.fixture(scope="module")
def trained(bundle_store):
    """The bundle that the tests share."""
    return find_bundle(bundle_store)


@pytest.fixture(scope="module")
def fitted(trained):
    """The blend of a trained store, with what it was fitted to."""
    full, model = Model.open(trained), Model.open(trained / "evaluation")
    _, targets = hold_out(full.histories)
    return model, targets, fit_blend(model, model.encoder, targets, seed=1)


def test_the_fit_beats_each_source(fitted):
    """On what it was fitted to the blend ranks at least as well as any source alone."""
    _, targets, found = fitted

    assert found.people >= len(targets.users)
    assert found.ndcg_at_10 >= max(found.of_source.values()) * (1.0 - blend.WORTH)
    assert set(found.of_source) == set(SOURCES)
    assert SEQUENCE in found.without_source
    for value in found.without_source.values():
        assert value <= found.ndcg_at_10 * (1.0 + 2 * blend.WORTH)


def test_weights_are_for_everyone(fitted):
    """The mixes begin with one event, weigh known sources, and own history only where it may be."""
    _, _, found = fitted

    assert found.blend.mixes[0].min_events == 1
    for mix in found.blend.mixes:
        assert HISTORY not in mix.weights
        for weights in (mix.weights, mix.weights_with_seen):
            assert weights
            assert sum(weights.values()) == pytest.approx(1.0, abs=0.01)


def test_the_same_seed_gives_the_same_blend(fitted):
    """Nothing in the fit is left to chance."""
    model, targets, found = fitted

    again = fit_blend(model, model.encoder, targets, seed=1)

    assert again == found


def test_people_who_return_are_recommended_what_they_had(fitted):
    """Where the held-out item is one of the person's own, own items are recommended by default."""
    model, targets, _ = fitted
    own = targets.queries.items[targets.queries.offsets[1:] - 1]
    returning = dataclasses.replace(targets, items=own.astype(np.int64))

    found = fit_blend(model, model.encoder, returning, seed=1)

    assert found.include_seen
    assert found.repeat_share == 1.0
    assert found.of_source[HISTORY] > found.of_source[POPULARITY]


def test_nobody_to_fit_on(fitted):
    """Without held-out events there is no fit, and what stood in the manifest stays."""
    model, _, _ = fitted
    nobody = hold_out(model.histories.without_last(model.histories.lengths))[1]

    assert fit_blend(model, model.encoder, nobody, seed=1) is None


def test_what_is_fitted_is_served(trained, fitted):
    """The bundle and the one inside it carry the weights, and the manifest says how they rank."""
    _, _, found = fitted
    for path in (trained, trained / "evaluation"):
        manifest = Model.open(path).manifest
        assert [mix.min_events for mix in manifest.blend.mixes] == [
            mix.min_events for mix in found.blend.mixes
        ]
        assert manifest.validation.blend_ndcg_at_10 > 0.0
        assert {SEQUENCE, POPULARITY} <= set(manifest.validation.source_ndcg_at_10)
