"""Folding a person into the factors."""

import numpy as np
import pytest

from kinrec.engine.factors import event_weights, split_by_sign


def test_event_weights():
    """An event counts as much as its type, and half as much after each half-life of events."""
    weights = event_weights(
        np.array([4, 2, 0]), np.array([0, 1, 1], np.uint8), np.array([1.0, 3.0], np.float32), 2.0
    )

    assert weights.tolist() == [0.25, 1.5, 3.0]


def test_split_by_sign():
    """A vector of any length becomes its unit vector's positive and negative parts."""
    split = split_by_sign(np.array([[3.0, -4.0], [0.0, 0.0]], np.float32))

    np.testing.assert_allclose(split, [[0.6, 0.0, 0.0, 0.8], [0.0, 0.0, 0.0, 0.0]], rtol=1e-6)


def test_folding_in_a_known_user(model):
    """A training user's own history and vector give the factors that training stored."""
    cosines = []
    for number in range(len(model.users)):
        factors = model.fold_in.user(model.histories.user(number), model.user_vectors[number])
        assert np.linalg.norm(factors) == pytest.approx(1.0, abs=1e-5)
        cosines.append(float(factors @ model.user_factors[number]))

    assert min(cosines) > 0.999


def test_the_interest_vector_matters(model):
    """The same items with the opposite interest give other factors."""
    history, vector = model.histories.user(0), model.user_vectors[0]

    same, opposite = model.fold_in.user(history, vector), model.fold_in.user(history, -vector)

    assert float(same @ opposite) < 0.99
