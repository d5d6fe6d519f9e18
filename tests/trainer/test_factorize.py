"""The factorization, and that the engine folds people in with the same numbers."""

import dataclasses

import numpy as np
import pytest

from kinrec.trainer.factorize import factorize, interaction_rows, item_weights

TYPE_WEIGHTS = np.array([1.0, 1.0, 5.0], np.float32)


@pytest.fixture
def log(make_histories):
    """80 people of two tastes, who use 4 to 12 of 20 items each."""
    rng = np.random.default_rng(5)
    rows = [
        (rng.integers(0, 10, rng.integers(4, 13)) + 10 * (user % 2)).tolist() for user in range(80)
    ]
    return make_histories(rows, types=[rng.integers(0, 3, len(row)).tolist() for row in rows])


@pytest.fixture
def vectors():
    """An interest vector for each."""
    return np.random.default_rng(6).normal(size=(80, 16)).astype(np.float32)


def test_item_weights_are_the_log_of_the_inverse_frequency(make_histories):
    """A person counts once per item; an item of nobody weighs as one of a single person."""
    weights = item_weights(make_histories([[0, 0, 1], [0], [0, 2]]), 4)
    assert weights.tolist() == pytest.approx(np.log1p([3 / 3, 3 / 1, 3 / 1, 3 / 1]).tolist())


def test_rows_weigh_type_and_recency_and_have_length_one(make_histories):
    """An event counts its type's weight, halved per half-life of later events; repeats add up."""
    histories = make_histories([[0, 1, 0], [2]], types=[[1, 2, 1], [1]])
    rows = interaction_rows(histories, np.ones(3, np.float32), TYPE_WEIGHTS, half_life=1.0)
    expected = np.array([1 + 1 / 4, 5 / 2, 0])
    assert rows.toarray()[0].tolist() == pytest.approx(
        (expected / np.linalg.norm(expected)).tolist()
    )
    assert rows.toarray()[1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_folding_a_person_of_the_log_in_gives_their_factors(log, vectors, tiny_config, alpha):
    """The engine's fold-in and the training agree on everyone, so both live in one space."""
    config = dataclasses.replace(tiny_config, alpha=alpha)
    fold_in, factors, _ = factorize(log, vectors, 20, TYPE_WEIGHTS, config)
    assert factors.shape == (80, 8)
    assert factors.dtype == np.float32
    assert fold_in.rows.item_weights.tolist() == item_weights(log, 20).tolist()
    for user in range(80):
        folded = fold_in.user(log.user(user), vectors[user])
        np.testing.assert_allclose(folded, factors[user], atol=1e-5)


def test_alpha_zero_ignores_the_vectors(log, vectors, tiny_config):
    """Other vectors make no difference at 0, and do at 1."""

    def factors(alpha, vectors):
        config = dataclasses.replace(tiny_config, alpha=alpha)
        found = factorize(log, vectors, 20, TYPE_WEIGHTS, config)[1]
        return found @ found.T  # cosines, which do not hang on signs and order

    np.testing.assert_allclose(factors(0.0, vectors), factors(0.0, vectors[::-1]), atol=1e-5)
    assert np.abs(factors(1.0, vectors) - factors(1.0, vectors[::-1])).max() > 0.1


def test_people_of_one_taste_are_more_alike(log, vectors, tiny_config):
    """The planted halves are far apart by cosine."""
    config = dataclasses.replace(tiny_config, alpha=0.0)
    _, factors, _ = factorize(log, vectors, 20, TYPE_WEIGHTS, config)
    cosines = factors @ factors.T
    same = np.arange(80)[:, None] % 2 == np.arange(80) % 2
    assert cosines[same].mean() > cosines[~same].mean() + 0.3


def test_the_same_seed_gives_the_same_bytes(log, vectors, tiny_config):
    """Nothing in the factorization hangs on anything but data and seed."""
    first, second = (factorize(log, vectors, 20, TYPE_WEIGHTS, tiny_config) for _ in range(2))
    assert first[1].tobytes() == second[1].tobytes()
    assert first[0].item_factors.tobytes() == second[0].item_factors.tobytes()


def test_factors_are_fewer_where_the_matrix_is_small(make_histories, tiny_config):
    """Three people have two factors at most, and someone without events has zeros."""
    histories = make_histories([[0, 1], [1, 2], []])
    vectors = np.ones((3, 4), np.float32)
    vectors[2] = 0.0
    _, factors, _ = factorize(histories, vectors, 3, TYPE_WEIGHTS, tiny_config)
    assert factors.shape == (3, 2)
    assert factors[2].tolist() == [0.0, 0.0]
    assert np.linalg.norm(factors[:2], axis=1).tolist() == pytest.approx([1.0, 1.0])
