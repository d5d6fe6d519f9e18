"""Events that say nothing new: equal ones, and the same again too soon or at all.

What becomes of repeats is repeated on requests by kinrec.engine.rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import narwhals as nw

from kinrec.trainer.frames import BY_TIME, settle
from kinrec.trainer.reading import (
    EVENT_COLUMNS,
    EVENT_TYPE,
    INPUT_ORDER,
    ITEM_ID,
    TIMESTAMP,
    USER_ID,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_TYPE = "type_or_blank"
_KEPT = "is_kept"
_KEPT_TIME = "time_of_last_kept"
_SAME = (USER_ID, ITEM_ID, _TYPE)


def drop_exact_duplicates(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Keep the first of the events that are equal in every column."""
    return frame.unique(list(EVENT_COLUMNS), keep="first", order_by=INPUT_ORDER)


def drop_repeats_in_window(frame: nw.LazyFrame[Any], seconds: float) -> nw.LazyFrame[Any]:
    """Drop what comes at most ``seconds`` after a kept event of the same user, item and type.

    A round keeps the first of every burst, and what is too close after it goes; what is left of a
    burst is the next round's. So there are as many rounds as one burst has kept events.
    """
    columns = frame.collect_schema().names()
    frame = frame.with_columns(nw.col(EVENT_TYPE).fill_null("").alias(_TYPE))
    finished = []
    rows = 1
    while rows:
        since = nw.col(TIMESTAMP) - nw.col(TIMESTAMP).shift(1).over(*_SAME, order_by=BY_TIME)
        frame = frame.with_columns((since.is_null() | (since > seconds)).alias(_KEPT))
        kept_time = nw.when(nw.col(_KEPT)).then(nw.col(TIMESTAMP))
        frame = frame.with_columns(kept_time.alias(_KEPT_TIME))
        frame = frame.with_columns(
            nw.col(_KEPT_TIME).fill_null(strategy="forward").over(*_SAME, order_by=BY_TIME)
        )
        frame = frame.filter(nw.col(_KEPT) | (nw.col(TIMESTAMP) - nw.col(_KEPT_TIME) > seconds))
        frame, _ = settle(frame.with_columns(nw.col(_KEPT).all().over(*_SAME)))
        finished.append(frame.filter(nw.col(_KEPT)))
        frame, rows = settle(frame.filter(~nw.col(_KEPT)))
    return nw.concat(finished, how="vertical").select(*columns)


def keep_first_of_types(frame: nw.LazyFrame[Any], types: Sequence[str]) -> nw.LazyFrame[Any]:
    """Keep the first event of each user, item and type of the ``types``, and all of other types."""
    before = nw.col(INPUT_ORDER).shift(1).over(USER_ID, ITEM_ID, EVENT_TYPE, order_by=BY_TIME)
    is_named = nw.col(EVENT_TYPE).is_in(types).fill_null(value=False)
    return frame.filter(before.is_null() | ~is_named)


def drop_immediate_repeats(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Drop what has the item and the type of the same user's event before."""

    def before(column: nw.Expr) -> nw.Expr:
        return column.shift(1).over(USER_ID, order_by=BY_TIME)

    event_type = nw.col(EVENT_TYPE).fill_null("")
    repeats = (nw.col(ITEM_ID) == before(nw.col(ITEM_ID))) & (event_type == before(event_type))
    return frame.filter(~repeats.fill_null(value=False))
