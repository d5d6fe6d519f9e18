"""What in a log or its settings is probably a mistake, though it can be trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Attribute
from kinrec.trainer.reading import ItemColumns, columns_without_types
from kinrec.trainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.trainer.cleaning_config import CleaningConfig
    from kinrec.trainer.log import EventLog
    from kinrec.trainer.reading import EventColumns

_FEW_ITEMS, _OWN_SHARE = 20, 0.9
# What no person does: so many events, and so large a share of all.
_MANY_EVENTS, _LARGE_SHARE = 1_000, 0.05
_FAR = 5.0  # times the span of nearly all events


def find_doubts(log: EventLog, config: CleaningConfig) -> list[str]:
    """Say what in a log or its cleaning is probably a mistake."""
    doubts = []
    if log.titles is not None and not any(log.titles):
        doubts.append(
            f"no item has a title: is the title_column right, and are the ids of the items those of "
            f"the events, e.g. {log.items.key(0)!r}?"
        )
    doubts += log.notes
    for name, column in log.attributes.items():
        spec = column.describe(name)
        if spec.kind == Attribute.KIND_TEXT and _is_own(spec):
            doubts.append(
                f"attribute {name}: {spec.value_count:,} values for {spec.item_count:,} items, so "
                f"few items share one; if nobody filters by it, leave it out of attributes"
            )
    named = {
        "type_weight": [name for name, _ in config.type_weight],
        "once_types": config.once_types,
        "known_types": config.known_types,
        "min_value_types": config.min_value_types,
    }
    for setting, names in named.items():
        absent = [name for name in names if name not in log.event_types]
        if absent:
            there = ", ".join(log.event_types) or "none"
            doubts.append(f"{setting}: no event is of type {', '.join(absent)}; there are {there}")
    return [*doubts, *_odd_times(log.histories.times), *_odd_users(log)]


def _odd_times(times: NDArray[np.float64]) -> Iterator[str]:
    """Say so if a few events lie far from all others, as of a clock that was wrong."""
    times = times[np.isfinite(times)]
    if not len(times):
        return
    first, start, end, last = np.quantile(times, [0.0, 0.01, 0.99, 1.0]).tolist()
    if max(start - first, last - end) > _FAR * (end - start) > 0.0:
        yield (
            f"events reach from {format_time(first)} to {format_time(last)}, but 98 % of them lie "
            f"between {format_time(start)} and {format_time(end)}; if the others are wrong, "
            f"earliest_time and latest_time leave them out"
        )


def _odd_users(log: EventLog) -> Iterator[str]:
    """Say so if one user has so many events that it is probably no person."""
    lengths = log.histories.lengths
    busiest, events = int(lengths.argmax()), int(lengths.sum())
    most = int(lengths[busiest])
    if most >= _MANY_EVENTS and most >= _LARGE_SHARE * events:
        yield (
            f"user {log.users.key(busiest)!r} alone has {most:,} of {events:,} events; if it is a robot, "
            f"max_events_per_hour leaves it out"
        )


def _is_own(spec: Attribute) -> bool:
    """Whether nearly every item has a value of its own."""
    return spec.item_count >= _FEW_ITEMS and spec.value_count >= _OWN_SHARE * spec.item_count


def find_types(events: Sequence[Path], columns: EventColumns) -> list[str]:
    """Say so of a log without types if there are columns that may be meant as one.

    Raises:
        DataError: A file cannot be read.
    """
    others = ", ".join(columns_without_types(events, columns))
    doubt = (
        f"no event has a type, so all count alike; if one of the columns {others} says what was done, "
        f"type_column names it"
    )
    return [doubt] if others else []


def find_unused(columns: ItemColumns) -> list[str]:
    """Say so, without items, if it is said how they are written."""
    given = {
        "title_column": columns.title != ItemColumns().title,
        "attributes": bool(columns.attributes),
        "attribute_kind": bool(columns.attribute_kind),
        "attribute_separator": bool(columns.attribute_separator),
    }
    named = [setting for setting, is_given in given.items() if is_given]
    if not named:
        return []
    return [f"{', '.join(named)}: there is no file of items, so there are no titles and attributes"]
