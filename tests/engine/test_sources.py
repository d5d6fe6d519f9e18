"""The sources of recommendations, on examples worked out by hand."""

import numpy as np
import pytest

from kinrec.engine.events import History
from kinrec.engine.histories import Histories
from kinrec.engine.index import ExactIndex
from kinrec.engine.sources import (
    FactorScores,
    OwnHistory,
    Popularity,
    SimilarUserVotes,
    Transitions,
    ranges,
    softmax,
)


def history(*items):
    zeros = np.zeros(len(items))
    return History(np.array(items, np.int32), zeros.astype(np.uint8), zeros)


def summed(shares, items):
    numbers, values = shares
    return np.bincount(numbers, values, items)


@pytest.fixture
def transitions():
    """Item 0 leads to 1 (.5) and 2 (.25), item 1 to 0 (.4), item 2 to nothing."""
    return Transitions(
        np.array([0, 2, 3, 3]),
        np.array([1, 2, 0], np.int32),
        np.array([0.5, 0.25, 0.4], np.float32),
    )


def test_transitions(transitions):
    """What followed the last item counts whole, what followed the one before it half."""
    followers = transitions.followers(history(0, 1), half_life=1.0)
    shares = summed((followers.items, followers.shares), 3)

    np.testing.assert_allclose(shares, np.array([0.4, 0.25, 0.125]) / 0.775, rtol=1e-6)


def test_transitions_to_nowhere(transitions):
    """A history of items that nothing followed names no items."""
    followers = transitions.followers(history(2, 2), half_life=1.0)

    assert (len(followers.items), len(followers.shares)) == (0, 0)


@pytest.fixture
def votes():
    """User 0 did 0 then 1; user 1 did 1 (of weight 3) then 2; user 2 did nothing."""
    histories = Histories(
        np.array([0, 2, 4, 4]),
        np.array([0, 1, 1, 2], np.int32),
        np.array([0, 0, 1, 0], np.uint8),
        np.zeros(4),
    )
    return SimilarUserVotes(histories, np.array([1.0, 3.0], np.float32))


def test_votes(votes):
    """A vote is the cosine times the event's weight, halved for each later event."""
    shares = votes.shares(np.array([0, 1, 2]), np.array([0.8, 0.4, 0.9], np.float32), 1.0)

    expected = np.array([0.4, 0.8 + 0.6, 0.4]) / 2.2
    np.testing.assert_allclose(summed(shares, 3), expected, rtol=1e-6)


def test_unlike_users_do_not_vote(votes):
    """A neighbour whose cosine is negative gives no item a share."""
    shares = votes.shares(np.array([0, 1]), np.array([-0.5, 0.4], np.float32), 1.0)

    assert summed(shares, 3)[0] == 0.0
    assert shares[1].sum() == pytest.approx(1.0)


def test_no_neighbour_with_a_history(votes):
    """Without any event of a neighbour there are no votes."""
    assert len(votes.shares(np.array([2]), np.array([1.0], np.float32), 1.0)[0]) == 0


def test_own_history():
    """An own item counts half for each later event, and as people return after its latest event."""
    done = History(np.array([0, 1, 0, 2], np.int32), np.array([0, 1, 2, 0], np.uint8), np.zeros(4))

    shares = OwnHistory(np.array([0.1, 0.3, 0.02], np.float32), 3).shares(done, half_life=1.0)

    expected = np.array([0.625 * 0.02, 0.25 * 0.3, 0.1])
    np.testing.assert_allclose(summed(shares, 3), expected / expected.sum(), rtol=1e-5)


def test_how_often_people_return_after_each_event():
    """Beside the type after which they do most often."""
    source = OwnHistory(np.array([0.1, 0.4, 0.02], np.float32), 3)
    assert source.returns(np.array([2, 1, 0], np.uint8)) == pytest.approx([0.05, 1.0, 0.25])


@pytest.mark.parametrize("rates", [[], [0.2, 0.2, 0.2]])
def test_own_history_where_all_types_are_alike(rates):
    """Then recency alone counts."""
    done = History(np.array([0, 1, 0], np.int32), np.array([0, 1, 2], np.uint8), np.zeros(3))

    shares = OwnHistory(np.array(rates, np.float32), 2).shares(done, half_life=1.0)

    np.testing.assert_allclose(summed(shares, 2), np.array([1.25, 0.5]) / 1.75, rtol=1e-6)
    assert OwnHistory(np.array(rates, np.float32), 2).returns(done.event_types) == 1.0


def test_popularity():
    """Popular items come first, equals by number, and the shares are of all items."""
    numbers, shares = Popularity(np.array([1.0, 4.0, 1.0, 2.0], np.float32)).shares(3)

    assert numbers.tolist() == [1, 3, 0]
    assert shares.tolist() == [0.5, 0.25, 0.125]


def test_factor_scores():
    """Items that point away from the person get no share."""
    index = ExactIndex(np.array([[3.0, 0.0], [1.0, 9.0], [-2.0, 0.0]], np.float32))

    shares = FactorScores(index).shares(np.array([1.0, 0.0], np.float32), 3)

    np.testing.assert_allclose(summed(shares, 3), [0.75, 0.25, 0.0])


@pytest.mark.parametrize(
    ("temperature", "shares"), [(1.0, [0.6, 0.3, 0.1]), (0.5, [36 / 46, 9 / 46, 1 / 46])]
)
def test_softmax(temperature, shares):
    """Logits become shares whose ratio is the exponential of their difference by temperature."""
    found = np.arange(3), np.log(np.array([6.0, 3.0, 1.0], np.float32))

    np.testing.assert_allclose(softmax(found, temperature)[1], shares, rtol=1e-5)


def test_ranges():
    """Runs of numbers are joined, empty ones included."""
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


def test_popular_items_are_discounted_by_a_power():
    """A score is divided by one plus the popularity, to the power asked for."""
    source = Popularity(np.array([0.0, 3.0, 8.0], np.float32))

    assert source.discount(0.0).tolist() == [1.0, 1.0, 1.0]
    assert source.discount(0.5).tolist() == pytest.approx([1.0, 1 / 2, 1 / 3])
