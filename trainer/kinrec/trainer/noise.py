"""Events that are no sign of what a person wants: of robots, of rare users and items, misdated."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import narwhals as nw

from kinrec.trainer.duplicates import drop_immediate_repeats
from kinrec.trainer.frames import BY_TIME, settle
from kinrec.trainer.reading import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID, VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.trainer.cleaning_config import CleaningConfig

_HOUR = 3_600.0
_MOST_CORE_ROUNDS = 1_000
_logger = logging.getLogger(__name__)


def keep_types(frame: nw.LazyFrame[Any], types: Sequence[str]) -> nw.LazyFrame[Any]:
    """Keep events of the ``types``, and those without a type."""
    return frame.filter(nw.col(EVENT_TYPE).is_null() | nw.col(EVENT_TYPE).is_in(types))


def keep_between(
    frame: nw.LazyFrame[Any], earliest: float | None, latest: float | None
) -> nw.LazyFrame[Any]:
    """Keep events from ``earliest`` to ``latest``, seconds since 1970 UTC."""
    if earliest is not None:
        frame = frame.filter(nw.col(TIMESTAMP) >= earliest)
    return frame if latest is None else frame.filter(nw.col(TIMESTAMP) <= latest)


def drop_fast_users(frame: nw.LazyFrame[Any], most: int) -> nw.LazyFrame[Any]:
    """Drop users who have more than ``most`` events in some 3,600 seconds.

    An hour begins with any event of the user and does not contain its end. Where a log has days
    for times, all that a user did in a day falls into one hour.
    """
    span = nw.col(TIMESTAMP) - nw.col(TIMESTAMP).shift(most).over(USER_ID, order_by=BY_TIME)
    frame = frame.with_columns((span < _HOUR).fill_null(value=False).alias("is_fast"))
    return frame.filter(~nw.col("is_fast").any().over(USER_ID)).drop("is_fast")


def drop_low_values(
    frame: nw.LazyFrame[Any], least: float, types: Sequence[str]
) -> nw.LazyFrame[Any]:
    """Drop events with a value under ``least``, of the ``types`` or, if there are none, of all."""
    is_low = (nw.col(VALUE) < least).fill_null(value=False)
    if types:
        is_low = is_low & nw.col(EVENT_TYPE).is_in(types).fill_null(value=False)
    return frame.filter(~is_low)


def keep_frequent(frame: nw.LazyFrame[Any], config: CleaningConfig) -> nw.LazyFrame[Any]:
    """Drop rare users and items until none is left, for one drop can make others rare.

    Where an item goes, its neighbours in a history can become repeats; those go too, as the engine
    leaves out unknown items first.
    """
    frame, before = settle(frame)
    for _ in range(1 if config.minimums_once else _MOST_CORE_ROUNDS):
        frame = frame.filter(nw.len().over(USER_ID) >= config.min_user_events)
        frame = frame.filter(nw.len().over(ITEM_ID) >= config.min_item_events)
        if config.drop_immediate_repeats:
            frame = drop_immediate_repeats(frame)
        frame, left = settle(frame)
        if left == before:
            return frame
        before = left
    if not config.minimums_once:
        _logger.warning("the minimums are not met by all after %d rounds", _MOST_CORE_ROUNDS)
    return frame
