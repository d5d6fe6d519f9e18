"""Measures beside values worked out by hand."""

import math

import numpy as np
import pytest

from kinrec.trainer import metrics

RANKS = np.array([0, 1, 4, 5, metrics.NOT_FOUND])


@pytest.mark.parametrize(
    ("measure", "k", "values"),
    [
        (metrics.hit_rate, 5, [1, 1, 1, 0, 0]),
        (metrics.hit_rate, 1, [1, 0, 0, 0, 0]),
        (metrics.precision, 5, [0.2, 0.2, 0.2, 0, 0]),
        (metrics.ndcg, 5, [1, 1 / math.log2(3), 1 / math.log2(6), 0, 0]),
        (metrics.ndcg, 10, [1, 1 / math.log2(3), 1 / math.log2(6), 1 / math.log2(7), 0]),
        (metrics.mrr, 5, [1, 1 / 2, 1 / 5, 0, 0]),
        (metrics.mrr, 10, [1, 1 / 2, 1 / 5, 1 / 6, 0]),
    ],
)
def test_measures_of_ranks(measure, k, values):
    """Each measure of a rank from 0 is what its definition gives; not found gives 0."""
    assert measure(RANKS, k).tolist() == pytest.approx(values)


def test_ranks_count_unseen_items_of_equal_or_greater_score():
    """Seen items are out of the way, ties come first, and a seen target is not found."""
    scores = np.array([[9, 5, 7, 5, 1], [9, 5, 7, 5, 1], [9, 5, 7, 5, 1]], np.float32)
    seen = [np.array([0], np.int32), np.array([], np.int32), np.array([1], np.int32)]
    ranks = metrics.ranks_of(scores, np.array([1, 0, 1]), seen)
    assert ranks.tolist() == [2, 0, metrics.NOT_FOUND]


def test_ranks_in_lists():
    """A rank is the place in the list, from 0; what is not in it is not found."""
    lists = [[3, 1, 2], [3, 1, 2], []]
    ranks = metrics.ranks_in(lists, np.array([3, 2, 1]))
    assert ranks.tolist() == [0, 2, metrics.NOT_FOUND]


def test_coverage_is_the_share_of_items_recommended_to_anyone():
    """An item counts once however often it is recommended."""
    assert metrics.coverage([[1, 2], [2, 3], []], 12) == pytest.approx(0.25)
