"""Runs what is pending on a lazy frame of events, and gives the order in which events happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinrec.trainer.reading import INPUT_ORDER, TIMESTAMP

if TYPE_CHECKING:
    import narwhals as nw

BY_TIME = (TIMESTAMP, INPUT_ORDER)
"""The order of a user's events."""


def settle(frame: nw.LazyFrame[Any]) -> tuple[nw.LazyFrame[Any], int]:
    """Run what is pending, so that it runs once, and count the rows.

    The one place that holds all rows in memory: a backend on a cluster would cache them there.
    """
    collected = frame.collect()
    return collected.lazy(), len(collected)
