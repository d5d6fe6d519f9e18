"""Fills gaps in a user's values by Gaussian process regression over time.

Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2. The process has a
squared-exponential kernel and fixed parameters, so that the result depends on the data alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from kinrec.trainer.reading import INPUT_ORDER, USER_ID

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_EVENTS = 1_000
"""Users with more events are interpolated: the work grows with the cube of the number."""

# The kernel's length, in median distances between a user's events, and the share of noise in the
# variance of the known entries.
_LENGTH = 3.0
_NOISE = 0.1
_FILLED = "filled"
_AXIS = "axis"
_logger = logging.getLogger(__name__)


def smooth(frame: nw.LazyFrame[Any], column: str, axis: str) -> nw.LazyFrame[Any]:
    """Fill the missing entries of ``column`` along ``axis``, for each user who has known ones.

    The rows of those users are held in memory, on a cluster too. It takes about 3 ms for
    a user with few events, about 0.1 s for one with the most, ``MOST_EVENTS``; the entries of users
    who have more are interpolated linearly.

    Args:
        frame: Events.
        column: Float64.
        axis: A column of numbers without nulls.
    """
    is_missing = nw.col(column).is_null()
    touched = frame.filter(is_missing.any().over(USER_ID), (~is_missing).any().over(USER_ID))
    at = nw.col(axis).cast(nw.Float64).alias(_AXIS)
    wanted = touched.select(USER_ID, INPUT_ORDER, column, at)
    rows = wanted.sort(USER_ID, _AXIS, INPUT_ORDER).collect()
    places: NDArray[np.float64] = rows[_AXIS].to_numpy()
    entries: NDArray[np.float64] = rows[column].to_numpy().astype(np.float64)
    users = rows[USER_ID].to_numpy()
    stops = np.flatnonzero(users[1:] != users[:-1]) + 1
    spans = zip([0, *stops], [*stops, len(rows)], strict=True)
    interpolated = 0
    for start, stop in spans:
        interpolated += _fill(places[start:stop], entries[start:stop])
    if interpolated:
        _logger.warning(
            "%s of %d users with more than %d events was interpolated, not smoothed",
            column,
            interpolated,
            MOST_EVENTS,
        )
    filled = nw.new_series(_FILLED, entries, nw.Float64, backend=rows.implementation)
    answers = rows.select(INPUT_ORDER).with_columns(filled).lazy()
    joined = frame.join(answers, on=INPUT_ORDER, how="left")
    return joined.with_columns(nw.coalesce(column, _FILLED).alias(column)).drop(_FILLED)


def _fill(places: NDArray[np.float64], entries: NDArray[np.float64]) -> bool:
    """Fill the NaN of one user's entries in place; True if it has too many events."""
    missing = np.isnan(entries)
    known, answers = entries[~missing], places[missing]
    if known.size and len(entries) > MOST_EVENTS:
        entries[missing] = np.interp(answers, places[~missing], known)
        return True
    if known.size:
        distances = np.diff(places)
        distances = distances[distances > 0.0]
        unit = float(np.median(distances)) if distances.size else 1.0
        scaled = (places - places[0])[:, np.newaxis] / unit
        process = GaussianProcessRegressor(
            RBF(_LENGTH), alpha=_NOISE, optimizer=None, normalize_y=True
        )
        process.fit(scaled[~missing], known)
        entries[missing] = process.predict(scaled[missing])
    return False
