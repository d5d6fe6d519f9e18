"""The classic recommenders beside their definitions, worked out in loops."""

import numpy as np
import pytest

from kinrec.trainer.baselines import (
    ItemKnn,
    ItemTransitions,
    MostPopular,
    UserKnn,
    _largest_per_row,
    fit_baselines,
    interactions,
)

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
    scores = MostPopular.fit(log, ITEMS).scores(people)
    assert (scores == binary(log).sum(0)).all()
    assert scores.shape == (4, ITEMS)


def test_item_knn_sums_the_cosines_of_items(log, people):
    """An item scores the sum of its cosines to the different items of the history, itself apart."""
    columns = binary(log).T
    similarities = np.array([[cosine(a, b) for b in columns] for a in columns])
    np.fill_diagonal(similarities, 0.0)
    expected = binary(people) @ similarities
    np.testing.assert_allclose(ItemKnn.fit(log, ITEMS).scores(people), expected, atol=1e-5)


def test_user_knn_sums_the_cosines_of_the_people_who_used_an_item(log, people):
    """An item scores the sum of the cosines between the person and those who used it."""
    rows = binary(log)
    expected = np.array(
        [sum(cosine(person, row) * row for row in rows) for person in binary(people)]
    )
    np.testing.assert_allclose(UserKnn.fit(log, ITEMS).scores(people), expected, atol=1e-5)


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
    np.testing.assert_allclose(ItemTransitions.fit(log, ITEMS).scores(people), expected, atol=1e-5)


def test_only_the_nearest_neighbours_are_kept():
    """All but the greatest of each row become zero."""
    scores = np.array([[3, 1, 2, 5], [1, 2, 3, 4]], np.float32)
    assert _largest_per_row(scores, 2).tolist() == [[3, 0, 0, 5], [0, 0, 3, 4]]
    assert _largest_per_row(np.ones((1, 2), np.float32), 5).tolist() == [[1, 1]]


def test_all_have_names_and_score_every_item(log, people):
    """Each baseline is another method and scores all items for all people."""
    baselines = fit_baselines(log, ITEMS)
    assert [baseline.name for baseline in baselines] == [
        "popularity",
        "item-kNN",
        "user-kNN",
        "transitions",
    ]
    for baseline in baselines:
        scores = baseline.scores(people)
        assert scores.shape == (4, ITEMS)
        assert np.isfinite(scores).all()
