"""Bootstrap intervals hold what they should, and are the same every time."""

import numpy as np
import pytest
from scipy import stats

from kinrec.trainer.resampling import interval, resampled_means


def test_the_same_seed_gives_the_same_means():
    """Two runs agree to the bit; another seed gives other means."""
    values = np.random.default_rng(0).random((50, 3))
    first = resampled_means(values, 120)
    assert (first == resampled_means(values, 120)).all()
    assert (first != resampled_means(values, 120, seed=1)).any()
    assert first.shape == (120, 3)


def test_the_interval_is_close_to_that_of_scipy():
    """Both ends are where the percentile method of scipy puts them, but for chance."""
    values = np.random.default_rng(1).exponential(size=400)
    found = interval(resampled_means(values[:, np.newaxis], 2_000))[:, 0]
    known = stats.bootstrap(
        (values,), np.mean, n_resamples=2_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    width = known.high - known.low
    assert found == pytest.approx([known.low, known.high], abs=0.1 * width)


def test_differences_are_paired():
    """A method that is always ahead by the same has a difference without any width."""
    worse = np.random.default_rng(3).random(100)
    means = resampled_means(np.column_stack([worse + 0.25, worse]), 200)
    assert interval(means[:, :1] - means[:, 1:])[:, 0] == pytest.approx([0.25, 0.25])


def test_one_person_has_no_width():
    """Whom alone is drawn gives the same mean every time."""
    assert (resampled_means(np.array([[0.5, 0.25]]), 10) == [0.5, 0.25]).all()
