"""The order in which scored items are shown: diverse, and capped by category."""

import numpy as np
import pytest

from kinrec.engine.arrange import Capped, arrange
from kinrec.engine.mixture import Mixture

# Items 0, 1 and 2 are nearly the same, 3 and 4 are others.
VECTORS = np.array([[1, 0, 0], [1, 0.01, 0], [1, 0, 0.01], [0, 1, 0], [0, 0, 1]], np.float32)
SCORES = np.array([1.0, 0.9, 0.8, 0.5, 0.4], np.float32)


def mixture(scores=SCORES):
    return Mixture(np.arange(len(scores)), scores, [])


def shown(count, *, diversity=0.0, pool=100, cap=None):
    items, scores = arrange(
        mixture(), count, pool=pool, diversity=diversity, vectors=VECTORS, cap=cap
    )
    assert scores.tolist() == SCORES[items].tolist()
    return items.tolist()


def by_category(most):
    """Items 0, 1 and 4 are of category 0, item 1 of category 1 as well, 2 and 3 of none."""
    return Capped(np.array([0, 1, 3, 3, 3, 4]), np.array([0, 0, 1, 0], np.int32), most)


def test_without_diversity_the_best_come_first():
    """The order is that of the scores."""
    assert shown(3) == [0, 1, 2]
    assert shown(9) == [0, 1, 2, 3, 4]


def test_with_diversity_what_is_alike_comes_later():
    """The best stays first, and the more diversity the further back its likes come."""
    assert shown(3, diversity=0.5) == [0, 3, 4]
    assert shown(5, diversity=0.5)[:3] == [0, 3, 4]
    assert shown(3, diversity=0.05) == [0, 1, 2]
    assert sorted(shown(5, diversity=1.0)) == [0, 1, 2, 3, 4]


def test_scores_that_fall_steeply_still_count():
    """Behind a first item of nearly all the score, the second best comes before what is worth nothing."""
    scores = np.array([1.0, 1e-2, 1e-6], np.float32)
    vectors = np.array([[1, 0, 0], [0.3, 1, 0], [0, 0, 1]], np.float32)
    items, _ = arrange(mixture(scores), 3, pool=100, diversity=0.3, vectors=vectors, cap=None)
    assert items.tolist() == [0, 1, 2]


def test_diversity_by_the_formula():
    """Each step takes the greatest marginal relevance."""
    units = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    cosines = units @ units.T
    for diversity in (0.1, 0.2, 0.3, 0.4, 0.6, 0.9):
        chosen = [0]
        while len(chosen) < 5:
            left = [item for item in range(5) if item not in chosen]
            chosen.append(
                max(
                    left,
                    key=lambda item: (
                        (1 - diversity) * np.cbrt(SCORES[item] / SCORES[0])
                        - diversity * cosines[item, chosen].max()
                    ),
                )
            )
        assert shown(5, diversity=diversity) == chosen


def test_what_is_beyond_the_pool_follows_by_score():
    """Only the best are made diverse; nothing is lost."""
    assert shown(5, diversity=1.0, pool=2) == [0, 1, 2, 3, 4]
    assert shown(4, diversity=0.5, pool=4) == [0, 3, 1, 2]


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_no_category_is_shown_more_often_than_the_cap(diversity):
    """Of several categories each counts; items of none are not counted."""
    assert sorted(shown(5, diversity=diversity, cap=by_category(1))) == [0, 2, 3]
    two = shown(5, diversity=diversity, cap=by_category(2))
    assert sorted(two) == ([0, 2, 3, 4] if diversity else [0, 1, 2, 3])
    assert sorted(shown(5, diversity=diversity, cap=by_category(3))) == [0, 1, 2, 3, 4]


def test_what_the_cap_refuses_repels_nothing():
    """An item that is not shown makes none that are like it less welcome."""
    capped = Capped(np.array([0, 1, 2, 2, 2, 2]), np.array([0, 0], np.int32), 1)
    # 1 is refused; with it counted, 2 would still be as near to 0.
    assert shown(4, diversity=0.3, cap=capped) == [0, 3, 4, 2]


def test_a_full_category_is_passed_over_however_large_it_is(monkeypatch):
    """Behind thousands of one category the few of others are found, without asking for each."""
    count = 200_000
    codes = np.zeros(count, np.int32)
    codes[-3:] = [1, 2, 3]
    capped = Capped(np.arange(count + 1), codes, 2)
    scores = np.linspace(1.0, 0.1, count, dtype=np.float32)
    large = Mixture(np.arange(count), scores, [])
    vectors = np.ones((count, 2), np.float32)
    asked = []
    take = capped.take
    monkeypatch.setattr(capped, "take", lambda item: asked.append(item) or take(item))
    items, _ = arrange(large, 100, pool=100, diversity=0.0, vectors=vectors, cap=capped)
    assert items.tolist() == [0, 1, count - 3, count - 2, count - 1]
    assert len(asked) < 2_000  # one by one only until the category is full


def test_nothing_to_show():
    """Without items nothing is shown."""
    empty = Mixture(np.zeros(0, np.int64), np.zeros(0, np.float32), [])
    for diversity in (0.0, 0.5):
        items, scores = arrange(
            empty, 3, pool=9, diversity=diversity, vectors=VECTORS, cap=by_category(1)
        )
        assert (len(items), len(scores)) == (0, 0)
