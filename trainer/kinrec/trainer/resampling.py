"""Bootstrap intervals over people.

Efron & Tibshirani, "An Introduction to the Bootstrap", 1993: the percentile interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 1_000
LEVEL = 0.95
SEED = 20


def resampled_means(
    values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64]:
    """Give the mean of each column over people drawn with replacement, time after time.

    All columns see the same people, so the difference of two columns of the result is what
    resampling the paired differences gives.

    Args:
        values: (people, columns).
        resamples: How many times.
        seed: Of the draws.

    Returns:
        (resamples, columns).
    """
    people = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, _BLOCK):
        weights = np.stack(
            [
                np.bincount(rng.integers(0, people, people), minlength=people)
                for _ in range(min(_BLOCK, resamples - start))
            ]
        )
        means[start : start + _BLOCK] = weights.astype(np.float64) @ values / people
    return means


_BLOCK = 50


def interval(means: NDArray[np.float64], level: float = LEVEL) -> NDArray[np.float64]:
    """Give the lower and the upper end that hold the middle ``level`` of each column, (2, columns)."""
    tail = (1.0 - level) / 2.0
    return np.asarray(np.quantile(means, [tail, 1.0 - tail], axis=0))
