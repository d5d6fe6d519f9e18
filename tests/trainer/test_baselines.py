"""The classic recommenders beside their definitions, worked out in loops."""

import copy

import numpy as np
import pytest
from scipy import sparse

from kinrec.engine.histories import Histories
from kinrec.trainer.baselines import (
    METHODS,
    Ease,
    ImplicitAls,
    ItemKnn,
    ItemTransitions,
    MostPopular,
    SessionKnn,
    UserKnn,
    choose,
    interactions,
    settings_of,
)
from kinrec.trainer.baselines._base import keep_largest
from kinrec.trainer.baselines.choice import validate
from kinrec.trainer.splits import Targets, select

ITEMS = 12


@pytest.fixture
def log(make_histories):
    """30 people with 0 to 8 events each, repeats among them."""
    rng = np.random.default_rng(9)
    return make_histories([rng.integers(0, ITEMS, user % 9).tolist() for user in range(30)])


@pytest.fixture
def people(make_histories):
    """People who were not there when the baselines were fitted."""
    return make_histories([[0, 1, 2], [5], [3, 3, 4, 3], list(range(ITEMS))])


def binary(histories):
    """Give who did anything with what, dense."""
    matrix = np.zeros((len(histories), ITEMS))
    for user in range(len(histories)):
        matrix[user, histories.user(user).items] = 1.0
    return matrix


def cosine(first, second):
    """Give the cosine of two vectors; 0 with a vector of zeros."""
    norm = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norm) if norm else 0.0


def test_interactions_are_binary(log):
    """Doing something twice counts once."""
    assert (interactions(log, ITEMS).toarray() == binary(log)).all()


def test_popularity_is_the_number_of_users(log, people):
    """Everyone gets the same scores: how many people used each item."""
    scores = MostPopular().fit(log, ITEMS).scores(people)
    assert (scores == binary(log).sum(0)).all()
    assert scores.shape == (4, ITEMS)


def test_item_knn_sums_the_cosines_of_items(log, people):
    """An item scores the sum of its cosines to the different items of the history, itself apart."""
    columns = binary(log).T
    similarities = np.array([[cosine(a, b) for b in columns] for a in columns])
    np.fill_diagonal(similarities, 0.0)
    expected = binary(people) @ similarities
    np.testing.assert_allclose(ItemKnn().fit(log, ITEMS).scores(people), expected, atol=1e-5)


def test_user_knn_sums_the_cosines_of_the_people_who_used_an_item(log, people):
    """An item scores the sum of the cosines between the person and those who used it."""
    rows = binary(log)
    expected = np.array(
        [sum(cosine(person, row) * row for row in rows) for person in binary(people)]
    )
    np.testing.assert_allclose(UserKnn().fit(log, ITEMS).scores(people), expected, atol=1e-5)


def test_transitions_weigh_followers_by_how_recent_the_item_is(log, people):
    """The last item counts whole, the one before half, and so on."""
    counts = np.zeros((ITEMS, ITEMS))
    for user in range(len(log)):
        row = log.user(user).items
        for place, before in enumerate(row):
            for distance, after in enumerate(row[place + 1 : place + 6], start=1):
                if before != after:
                    counts[before, after] += 1 / distance
    counts /= counts.sum(1, keepdims=True) + 1
    expected = np.zeros((4, ITEMS))
    for person in range(4):
        for place, item in enumerate(people.user(person).items[::-1]):
            expected[person] += counts[item] / (place + 1)
    np.testing.assert_allclose(
        ItemTransitions().fit(log, ITEMS).scores(people), expected, atol=1e-5
    )


def test_only_the_nearest_neighbours_are_kept():
    """All but the greatest of each row are gone, and those equal to the last stay."""
    matrix = sparse.csr_matrix(np.array([[3, 1, 2, 5], [1, 2, 2, 4], [0, 1, 0, 0]], np.float32))
    assert keep_largest(matrix, 2).toarray().tolist() == [
        [3, 0, 0, 5],
        [0, 2, 2, 4],
        [0, 1, 0, 0],
    ]


def test_ease_is_the_best_linear_model_that_leaves_out_the_item_itself(log, people):
    """Each column of weights solves the ridge regression of its item on all the others."""
    rows, l2 = binary(log), 3.0
    weights = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = np.arange(ITEMS) != item
        x = rows[:, others]
        weights[others, item] = np.linalg.solve(
            x.T @ x + l2 * np.eye(ITEMS - 1), x.T @ rows[:, item]
        )
    found = Ease(l2).fit(log, ITEMS)
    np.testing.assert_allclose(found.scores(people), binary(people) @ weights, atol=1e-4)
    assert found.note == ""


def test_ease_takes_the_most_frequent_items_of_a_large_catalogue(log, people):
    """The others have no score, and the note says how many take part."""
    found = Ease(3.0, max_items=5).fit(log, ITEMS)
    users = binary(log).sum(0)
    kept = np.sort(np.lexsort((np.arange(ITEMS), -users))[:5])
    scores = found.scores(people)
    assert not np.delete(scores, kept, axis=1).any()
    assert scores[:, kept].any(axis=0).all()
    assert found.note == "only the 5 items with the most users of 12"


def test_ease_mirrors_matrices_of_more_than_one_block(make_histories):
    """With more items than are copied at a time the weights still are those of the inverse."""
    rng = np.random.default_rng(4)
    items = 1_500
    log = make_histories([rng.integers(0, items, 20).tolist() for _ in range(300)])
    weights = Ease(5.0).fit(log, items)._weights
    x = interactions(log, items).toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 5.0 * np.eye(items))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(weights, expected, atol=1e-4)


def test_ials_scores_what_was_done_above_the_rest(log):
    """The factors give back the interactions that they were fitted on."""
    scores = ImplicitAls(factors=8, regularization=0.01, alpha=20.0).fit(log, ITEMS).scores(log)
    done = binary(log) > 0
    assert scores[done].mean() > 3 * scores[~done].mean()


def test_session_knn_is_the_published_formula(make_histories, people):
    """Similarities, matches and frequencies, worked out session by session."""
    rng = np.random.default_rng(9)
    rows = [rng.integers(0, ITEMS, 1 + user % 8).tolist() for user in range(30)]
    ends = rng.permutation(30)
    log = make_histories(rows, times=[[float(ends[n])] * len(row) for n, row in enumerate(rows)])
    sessions, neighbours = 3, 4
    matrix = binary(log)
    users = matrix.sum(0)
    expected = np.zeros((len(people), ITEMS))
    for person in range(len(people)):
        last = people.user(person).items[-10:].tolist()
        similarity, match = np.zeros(30), np.zeros(30)
        for place, item in enumerate(last):
            if item in last[place + 1 :]:
                continue
            having = np.flatnonzero(matrix[:, item])
            for session in sorted(having, key=lambda one: -ends[one])[:sessions]:
                similarity[session] += (place + 1) / len(last)
                match[session] = 1 - (len(last) - 1 - place) / 10
        edge = np.sort(similarity)[-neighbours]
        for session in np.flatnonzero((similarity >= edge) & (similarity > 0)):
            weight = similarity[session] * match[session]
            expected[person] += weight * matrix[session] * np.log(30 / np.maximum(users, 1))
    found = SessionKnn(sessions, neighbours).fit(log, ITEMS).scores(people)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def nobody():
    """Nothing to validate on."""
    none = np.zeros(0, np.int64)
    empty = Histories(
        np.zeros(1, np.int64), none.astype("i4"), none.astype("u1"), none.astype("f8")
    )
    return Targets(none, none, empty)


@pytest.fixture(params=METHODS, ids=lambda grid: grid[0].name)
def grid(request):
    """The settings of one method."""
    return request.param


def test_every_baseline_scores_every_item_for_everyone(grid, log, people):
    """Scores are finite float32 for all people and items, and something is recommended."""
    fitted = choose(grid[:1], log, ITEMS, nobody()).baseline.fit(log, ITEMS)
    scores = fitted.scores(people)
    assert scores.shape == (len(people), ITEMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores.max(axis=1) > 0).all()
    assert all(isinstance(value, int | float) for value in settings_of(fitted).values())


def test_every_baseline_is_the_same_every_time(grid, log, people):
    """Two fits give the same scores, bit for bit, and people do not change each other's."""
    first, second = (
        choose(grid[:1], log, ITEMS, nobody()).baseline.fit(log, ITEMS) for _ in range(2)
    )
    scores = first.scores(people)
    assert (scores == second.scores(people)).all()
    for person in range(len(people)):
        alone = people.last(1_000)
        own = first.scores(
            type(alone)(
                np.array([0, alone.lengths[person]]),
                alone.user(person).items,
                alone.user(person).event_types,
                alone.user(person).times,
            )
        )
        np.testing.assert_allclose(own[0], scores[person], atol=1e-5)


def test_every_baseline_ignores_what_comes_after_the_training_part(grid, ring, make_histories):
    """Users without a history, whose events all come later, change no score."""
    empty = make_histories([*([[]] * 3)])
    padded = type(ring)(
        np.concatenate([ring.offsets, np.full(3, ring.offsets[-1])]),
        *(getattr(ring, name) for name in ("items", "event_types", "times")),
    )
    assert not len(empty.items)
    scores = choose(grid[:1], padded, 16, nobody()).baseline.fit(padded, 16).scores(ring)
    assert np.isfinite(scores).all()
    assert (scores.max(axis=1) > 0).all()


def test_all_methods_have_names_and_different_settings():
    """Each method has one name, and no two candidates are alike."""
    names = [grid[0].name for grid in METHODS]
    assert names == [
        "popularity",
        "item-kNN",
        "user-kNN",
        "EASE",
        "iALS",
        "transitions",
        "session-kNN",
    ]
    for grid in METHODS:
        assert {one.name for one in grid} == {grid[0].name}
        assert len({tuple(settings_of(one).items()) for one in grid}) == len(grid)


def test_what_does_best_on_validation_is_chosen(ring):
    """On a ring, where the last item says the next, it is found out which candidate does."""
    training_part = ring.without_last(np.ones(len(ring), int))
    targets = Targets(
        np.arange(len(ring)), ring.items[ring.offsets[1:] - 1].astype(int), training_part
    )
    best = ItemTransitions(1, 1)
    for grid in ((MostPopular(), best), (best, MostPopular())):
        chosen = choose(grid, training_part, 16, targets)
        assert settings_of(chosen.baseline) == {"window": 1, "events": 1}
        assert chosen.ndcg_at_10 == validate(chosen.baseline.fit(training_part, 16), targets)
        assert chosen.ndcg_at_10 > 0.9
        assert chosen.tried == 2


def test_seen_items_are_ranked_where_the_test_ranks_them(make_histories):
    """Who returns to an item is found only where seen items are not left out."""
    training_part = make_histories([[0, 1], [0, 2], [0, 3]])
    targets = Targets(np.arange(3), np.zeros(3, int), training_part)
    baseline = MostPopular().fit(training_part, 4)
    assert validate(baseline, targets) == 0.0
    assert validate(baseline, targets, include_seen=True) == 1.0


def test_a_choice_leaves_the_candidates_unfitted(ring):
    """The grid can be used again: what is fitted is a copy."""
    grid = (ItemKnn(3), ItemKnn(5))
    before = copy.copy(grid)
    choose(grid, ring, 16, Targets(np.array([0]), np.array([3]), select(ring, np.array([0]))))
    assert grid == before
    assert not any(hasattr(one, "_similarities") for one in grid)
