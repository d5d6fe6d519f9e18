"""What becomes of missing times, types and values: dropped, or filled in from what is known."""

from __future__ import annotations

from typing import Any, Literal

import narwhals as nw

from kinrec.trainer.cleaning_config import (
    CONSTANT,
    DROP,
    GAUSSIAN,
    INTERPOLATE,
    ITEM,
    KEEP,
    MEAN,
    MEDIAN,
    MOST_FREQUENT,
    USER,
    Filling,
)
from kinrec.trainer.frames import BY_TIME
from kinrec.trainer.reading import INPUT_ORDER, ITEM_ID, TIMESTAMP, USER_ID
from kinrec.trainer.smoothing import smooth

_GROUPS = {USER: USER_ID, ITEM: ITEM_ID}


def fill_missing(
    frame: nw.LazyFrame[Any], column: str, filling: Filling, substitute: float | str | None
) -> nw.LazyFrame[Any]:
    """Drop the rows without an entry in ``column``, or fill in what can be.

    A mean, median or most frequent entry of a user or item without any is that over all. What lies
    before the first known entry of a user or after the last takes that one when interpolated. A
    user without any known entry is not interpolated and not smoothed: it stays missing.

    Args:
        frame: Events. All have a time unless that is the column to fill.
        column: ``timestamp``, ``event_type`` or ``value``.
        filling: What to do.
        substitute: What ``find_substitute`` gives.
    """
    axis = INPUT_ORDER if column == TIMESTAMP else TIMESTAMP
    if filling.method == KEEP:
        return frame
    if filling.method == DROP:
        return frame.filter(~nw.col(column).is_null())
    if filling.method == INTERPOLATE:
        return _interpolate(frame, column, axis)
    if filling.method == GAUSSIAN:
        return smooth(frame, column, axis)
    entries = [nw.col(column)]
    if filling.by in _GROUPS:
        frame, of_group = _of_group(frame, column, filling)
        entries.append(of_group)
    if substitute is not None:
        entries.append(nw.lit(substitute))
    return frame.with_columns(nw.coalesce(*entries).alias(column)).drop(_SCRATCH, strict=False)


def find_substitute(frame: nw.LazyFrame[Any], column: str, filling: Filling) -> float | str | None:
    """Find what stands for a missing entry where nothing is known of the user or item.

    Returns:
        A constant, or the mean, median or most frequent of all known entries; None if there are
        none, or ``filling`` has no such thing.
    """
    if filling.method == CONSTANT:
        return filling.constant
    # Sorted, so that a mean does not depend on the order in which it is summed.
    known = frame.select(column).filter(~nw.col(column).is_null()).sort(column)
    if filling.method == MOST_FREQUENT:
        known = known.with_columns(nw.len().over(column).alias(_SCRATCH))
        known = known.filter(nw.col(_SCRATCH) == nw.col(_SCRATCH).max()).select(
            nw.col(column).min()
        )
    elif filling.method in {MEAN, MEDIAN}:
        known = known.select(_middle(column, filling.method))
    else:
        return None
    found: float | str | None = known.collect().item()
    return found


_SCRATCH = "scratch"


def _of_group(
    frame: nw.LazyFrame[Any], column: str, filling: Filling
) -> tuple[nw.LazyFrame[Any], nw.Expr]:
    """Give the mean, median or most frequent entry of each row's user or item.

    Where several are the most frequent the least of them is taken.
    """
    group = _GROUPS[filling.by]
    if filling.method == MEDIAN:
        return frame, nw.col(column).median().over(group)
    if filling.method == MEAN:
        return _mean_of_group(frame, column, group)
    count = nw.when(~nw.col(column).is_null()).then(nw.len().over(group, column))
    frame = frame.with_columns(count.alias(_SCRATCH))
    is_most_frequent = nw.col(_SCRATCH) == nw.col(_SCRATCH).max().over(group)
    frame = frame.with_columns(nw.when(is_most_frequent).then(nw.col(column)).alias(_SCRATCH))
    return frame, nw.col(_SCRATCH).min().over(group)


def _mean_of_group(
    frame: nw.LazyFrame[Any], column: str, group: str
) -> tuple[nw.LazyFrame[Any], nw.Expr]:
    """Give the mean entry of each row's group, summed in the order of the entries.

    A mean over groups is summed in any order, and differs in its last bits from run to run.
    """
    order = (column, INPUT_ORDER)
    entries = nw.col(column).fill_null(0.0)
    frame = frame.with_columns(entries.cum_sum().over(group, order_by=order).alias(_SCRATCH))
    place = nw.col(INPUT_ORDER).cum_count().over(group, order_by=order)
    total = nw.when(place == nw.len().over(group)).then(nw.col(_SCRATCH))
    frame = frame.with_columns(total.alias(_SCRATCH))
    known = nw.col(column).count().over(group)
    mean = nw.col(_SCRATCH).max().over(group) / nw.when(known > 0).then(known)
    return frame, mean


def _middle(column: str, method: str) -> nw.Expr:
    return nw.col(column).median() if method == MEDIAN else nw.col(column).mean()


def _interpolate(frame: nw.LazyFrame[Any], column: str, axis: str) -> nw.LazyFrame[Any]:
    """Draw a straight line over ``axis`` from each user's known entry before to the one after."""
    order = BY_TIME if axis == TIMESTAMP else (INPUT_ORDER,)
    known_at = nw.when(~nw.col(column).is_null()).then(nw.col(axis).cast(nw.Float64))
    frame = frame.with_columns(known_at.alias("known_at"))

    def near(name: str, strategy: Literal["forward", "backward"]) -> nw.Expr:
        return nw.col(name).fill_null(strategy=strategy).over(USER_ID, order_by=order)

    frame = frame.with_columns(
        near(column, "forward").alias("before"),
        near(column, "backward").alias("after"),
        near("known_at", "forward").alias("before_at"),
        near("known_at", "backward").alias("after_at"),
    )
    before, span = nw.col("before"), nw.col("after_at") - nw.col("before_at")
    share = nw.when(span > 0.0).then((nw.col(axis) - nw.col("before_at")) / span)
    line = before + (nw.col("after") - before) * share.fill_null(0.0)
    filled = nw.coalesce(nw.col(column), line, before, nw.col("after"))
    frame = frame.with_columns(filled.alias(column))
    return frame.drop("known_at", "before", "after", "before_at", "after_at")
