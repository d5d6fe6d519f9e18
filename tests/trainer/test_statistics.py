"""Transitions and popularity beside counts made by hand."""

import numpy as np
import pytest

from kinrec.trainer.statistics import (
    MAX_FOLLOWERS,
    cooccurrence_vectors,
    count_transitions,
    measure_evidence,
    measure_popularity,
    measure_return_rates,
)


def followers(transitions, item):
    """Give the followers of an item with their weights, in order."""
    span = slice(transitions.offsets[item], transitions.offsets[item + 1])
    return list(
        zip(transitions.items[span].tolist(), transitions.weights[span].tolist(), strict=True)
    )


def test_followers_count_by_nearness_within_the_window(make_histories):
    """A follower d events later counts 1/d; an item's counts are shares of their sum plus one."""
    found = count_transitions(make_histories([[0, 1, 2, 3], [0, 1]]), items=5, window=2)
    # After item 0: item 1 twice at distance 1, item 2 once at distance 2.
    assert followers(found, 0) == [(1, pytest.approx(2 / 3.5)), (2, pytest.approx(0.5 / 3.5))]
    assert followers(found, 1) == [(2, pytest.approx(1 / 2.5)), (3, pytest.approx(0.5 / 2.5))]
    assert followers(found, 2) == [(3, pytest.approx(1 / 2))]
    assert followers(found, 3) == []
    assert followers(found, 4) == []


def test_items_before_count_less_and_frequent_items_are_believed_more(make_histories):
    """With backward, what came before counts a share; with a power below 1, evidence counts."""
    rows = [[0, 1], [0, 1], [0, 1], [2, 3]]
    found = count_transitions(make_histories(rows), items=4, window=1, backward=0.5, power=0.5)
    assert followers(found, 0) == [(1, pytest.approx(3 / 4**0.5))]
    assert followers(found, 1) == [(0, pytest.approx(1.5 / 2.5**0.5))]
    assert followers(found, 2) == [(3, pytest.approx(1 / 2**0.5))]


def test_what_is_known_of_a_follower_beside_its_weight(make_histories):
    """How often it came after, how often right after, and how closely both go together, by hand."""
    histories = make_histories([[0, 1, 2], [0, 1], [1, 0]])
    transitions = count_transitions(histories, items=4, window=2, backward=0.4, power=0.5)
    found = measure_evidence(histories, 4, 2, transitions)
    # After 0: 1 twice, and 2 once at distance 2; after 1: 2 and 0 once each. Nothing follows 2.
    sums = {0: 3.5, 1: 4.0, 2: 1.5}
    expected = {
        (0, 1): (2 / 3.5**0.5, 2 / 3**0.5, 3 / (sums[0] * sums[1]) ** 0.5),
        (0, 2): (0.5 / 3.5**0.5, 0.0, 0.5 / (sums[0] * sums[2]) ** 0.5),
        (1, 0): (1 / 3**0.5, 1 / 3**0.5, 3 / (sums[0] * sums[1]) ** 0.5),
        (1, 2): (1 / 3**0.5, 1 / 3**0.5, 1 / (sums[1] * sums[2]) ** 0.5),
        (2, 0): (0.0, 0.0, 0.5 / (sums[0] * sums[2]) ** 0.5),
        (2, 1): (0.0, 0.0, 1 / (sums[1] * sums[2]) ** 0.5),
    }
    rows = np.repeat(np.arange(4), np.diff(transitions.offsets)).tolist()
    pairs = list(zip(rows, transitions.items.tolist(), strict=True))
    assert sorted(pairs) == sorted(expected)
    for pair, values in zip(pairs, found, strict=True):
        assert values == pytest.approx(expected[pair], abs=1e-6)


def test_nobody_leads_to_what_another_did_and_no_item_to_itself(make_histories):
    """Transitions end where a history ends, and a repeat of an item is none."""
    found = count_transitions(make_histories([[0, 0], [1], [2]]), items=3, window=5)
    assert len(found.items) == 0


def test_only_the_most_frequent_followers_are_kept(make_histories):
    """An item keeps its 100 greatest followers; the rare ones go."""
    rows = [[0, follower] for follower in range(1, 150) for _ in range(1 + (follower <= 100))]
    found = count_transitions(make_histories(rows), items=150, window=1)
    assert [item for item, _ in followers(found, 0)] == list(range(1, MAX_FOLLOWERS + 1))


def test_item_vectors_are_a_root_of_the_mutual_information(make_histories):
    """With as many dimensions as items, the vectors' products are the matrix but for its signs."""
    found = cooccurrence_vectors(make_histories([[0, 1], [0, 1], [2, 3]]), 4, 4, 1, seed=0)
    # Counted both ways, (0, 1) is there twice and (2, 3) once.
    context = np.array([2, 2, 1, 1]) ** 0.75
    context /= context.sum()
    information = np.log1p(1 / context[[0, 0, 2, 2]])
    products = found @ found.T
    assert products / products[0, 0] == pytest.approx(
        np.diag(information / information[0]), abs=1e-4
    )
    assert found.std() == pytest.approx(1.0)


def test_items_of_the_same_company_have_near_vectors(make_histories):
    """Items that never meet are near where they are followed by the same."""
    rows = [[0, 2], [1, 2], [0, 3], [1, 3], [4, 5], [4, 6], [7, 5], [7, 6]]
    found = cooccurrence_vectors(make_histories(rows), 8, 8, 1, seed=0)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert found[0] @ found[1] > 0.99
    assert abs(found[0] @ found[4]) < 0.01


def test_items_that_occur_with_nothing_have_vectors_of_zeros(make_histories):
    """An item alone in its history is near to none; a log of such items has no vectors at all."""
    assert (cooccurrence_vectors(make_histories([[0, 1], [2]]), 3, 8, 5, seed=0)[2] == 0).all()
    assert (cooccurrence_vectors(make_histories([[0], [1]]), 2, 8, 5, seed=0) == 0).all()


def test_popularity_weighs_type_and_counts_the_latest_twice(make_histories):
    """A use counts its type's weight, twice in the latest fifth of the log."""
    histories = make_histories(
        [[0, 1, 1, 2, 0]], types=[[0, 0, 1, 0, 1]], times=[[0.0, 1.0, 2.0, 3.0, 4.0]]
    )
    popularity = measure_popularity(histories, 4, np.array([1.0, 5.0], np.float32))
    assert popularity.tolist() == [1 + 2 * 5, 1 + 5, 1, 0]


def test_how_often_people_come_back_after_each_type(make_histories):
    """Within five events of the same person, the last event of everyone left out, drawn to the mean."""
    histories = make_histories(
        [[0, 0, 1, 1], [2, 3, 4, 5, 6, 2], [7, 8], [7]],
        types=[[1, 1, 2, 1], [1, 2, 2, 2, 2, 2], [2, 2], [1]],
    )
    # Of type 1 item 0 was come back to once of two times, item 2 once of one; of type 2 item 1 alone.
    returned, asked = np.array([0, 2, 1]), np.array([0, 3, 6])
    expected = (returned + 50 * 3 / 9) / (asked + 50)
    assert measure_return_rates(histories, 3) == pytest.approx(expected)
