"""Measures beside values worked out by hand."""

import math

import numpy as np
import pytest

from kinrec.trainer import metrics

LISTS = np.array([[3, 1, 2, 7], [5, 6, 0, metrics.PAD], [4, 8, 9, 2], [metrics.PAD] * 4])
# Two of three found, at places 1 and 3; none; one of one, at place 2; nothing was recommended.
TARGETS, OFFSETS = np.array([2, 3, 6, 1, 8, 3]), np.array([0, 3, 4, 5, 6])
HITS = metrics.Hits.of(LISTS, TARGETS, OFFSETS)
SECOND, THIRD = 1 / math.log2(3), 1 / math.log2(4)


def test_hits_are_the_targets_of_the_person_alone():
    """What another person should get is no hit, and neither is an empty place."""
    assert HITS.found.tolist() == [
        [True, False, True, False],
        [False, False, False, False],
        [False, True, False, False],
        [False, False, False, False],
    ]
    assert HITS.relevant.tolist() == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("measure", "k", "values"),
    [
        ("hit_rate", 1, [1, 0, 0, 0]),
        ("hit_rate", 3, [1, 0, 1, 0]),
        ("recall", 1, [1 / 3, 0, 0, 0]),
        ("recall", 4, [2 / 3, 0, 1, 0]),
        ("precision", 1, [1, 0, 0, 0]),
        ("precision", 4, [2 / 4, 0, 1 / 4, 0]),
        ("precision", 10, [2 / 10, 0, 1 / 10, 0]),
        ("mrr", 1, [1, 0, 0, 0]),
        ("mrr", 4, [1, 0, 1 / 2, 0]),
        ("ndcg", 1, [1, 0, 0, 0]),
        ("ndcg", 2, [1 / (1 + SECOND), 0, SECOND, 0]),
        ("ndcg", 10, [(1 + THIRD) / (1 + SECOND + THIRD), 0, SECOND, 0]),
        ("average_precision", 1, [1, 0, 0, 0]),
        ("average_precision", 2, [1 / 2, 0, 1 / 2, 0]),
        ("average_precision", 4, [(1 + 2 / 3) / 3, 0, 1 / 2, 0]),
    ],
)
def test_measures_of_hits(measure, k, values):
    """Each measure is what its definition gives by hand, person by person."""
    assert getattr(HITS, measure)(k).tolist() == pytest.approx(values)


def test_a_perfect_list_has_one_everywhere():
    """With as many targets as places all measures are 1."""
    hits = metrics.Hits.of(np.array([[4, 2]]), np.array([2, 4]), np.array([0, 2]))
    for measure in ("hit_rate", "recall", "precision", "mrr", "ndcg", "average_precision"):
        assert getattr(hits, measure)(2).tolist() == pytest.approx([1.0])


def test_ndcg_of_ranks_is_that_of_hits():
    """The measure that a fit validates with is the one of the evaluation, for one target each."""
    ranks = np.array([0, 1, 4, 10, metrics.NOT_FOUND])
    gains = [1, SECOND, 1 / math.log2(6), 0, 0]
    assert metrics.ndcg(ranks, 10).tolist() == pytest.approx(gains)


def test_ranks_count_unseen_items_of_equal_or_greater_score():
    """Seen items are out of the way, ties come first, and a seen target is not found."""
    scores = np.array([[9, 5, 7, 5, 1], [9, 5, 7, 5, 1], [9, 5, 7, 5, 1]], np.float32)
    seen = [np.array([0], np.int32), np.array([], np.int32), np.array([1], np.int32)]
    ranks = metrics.ranks_of(scores, np.array([1, 0, 1]), seen)
    assert ranks.tolist() == [2, 0, metrics.NOT_FOUND]


def test_coverage_is_the_share_of_items_recommended_to_anyone():
    """An item counts once however often it is recommended, an empty place never."""
    lists = np.array([[1, 2], [2, 3], [metrics.PAD, metrics.PAD]])
    assert metrics.coverage(lists, 12) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("lists", "value"),
    [
        ([[0, 1], [2, 3]], 0.0),  # all alike
        ([[0], [0]], 3 / 4),  # always the same of four
        ([[0, 1], [0, 2]], 3 / 8),  # counts 0, 1, 1, 2: (-3*0 - 1*1 + 1*1 + 3*2) / (4 * 4)
        ([[metrics.PAD]], 0.0),
    ],
)
def test_gini_says_how_unevenly_items_are_recommended(lists, value):
    """It is 0 for all alike, and 1 less a share for always the same."""
    assert metrics.gini(np.array(lists), 4) == pytest.approx(value)


def test_novelty_is_the_mean_self_information():
    """An item that half of the users have tells one bit; one without users counts as with one."""
    item_users = np.array([8, 4, 2, 0], np.float32)
    lists = np.array([[0, 1], [1, 2], [3, metrics.PAD], [metrics.PAD, metrics.PAD]])
    assert metrics.novelty(lists, item_users, 8).tolist() == pytest.approx([0.5, 1.5, 3.0, 0.0])


def test_diversity_is_one_less_the_mean_cosine_of_pairs():
    """Equal directions have 0, right angles 1, opposite ones 2, whatever their lengths."""
    vectors = np.array([[1, 0], [3, 0], [0, 2], [-1, 0]], np.float32)
    lists = np.array([[0, 1, -1], [0, 2, -1], [0, 3, -1], [0, 1, 2], [1, -1, -1]])
    expected = [0.0, 1.0, 2.0, 1 - (1 + 0 + 0) / 3, 0.0]
    assert metrics.diversity(lists, vectors).tolist() == pytest.approx(expected, abs=1e-6)
