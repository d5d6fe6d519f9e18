"""The queries of a batch as they stand in a file of JSON lines, and how many fit into one batch."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from kinrec.client import (
    AllOf,
    AnyOf,
    CategoryCap,
    NoneOf,
    NumberRange,
    Options,
    Query,
    TimeRange,
)
from kinrec.client.commands._events import LineError, RowError, event_of, known, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from kinrec.client import Condition, Event


# What the service takes at once.
_MAX_QUERIES = 256
_MAX_EVENTS = 20_000
_MAX_RESULTS = 20_000
_DEFAULT_LIMIT = 10


def query_of(row: object) -> Query:
    """Read a query. A field that is null counts as left out.

    Raises:
        RowError: It is none, or has a field that a query does not have: a misspelled condition that
            is passed over would recommend what must not be.
        InvalidRequestError: A list is none.
    """
    asked: dict[str, Any] = {
        name: _READ[name](value) if name in _READ else value
        for name, value in known(_object(row, "a query"), _NAMES, "a query")
    }
    more = {name: asked.pop(name) for name in _OPTIONS if name in asked}
    return Query(**asked, options=Options(**more))


def batches_of(queries: Iterable[Query | LineError]) -> Iterator[list[Query | LineError]]:
    """Put queries together as they come, as many as the service takes at once.

    What stands in the place of a query that could not be read keeps its place.
    """
    batch: list[Query | LineError] = []
    events = results = 0
    for query in queries:
        own_events, own_results = _size(query)
        is_full = (
            len(batch) == _MAX_QUERIES
            or events + own_events > _MAX_EVENTS
            or results + own_results > _MAX_RESULTS
        )
        if batch and is_full:
            yield batch
            batch, events, results = [], 0, 0
        batch.append(query)
        events += own_events
        results += own_results
    if batch:
        yield batch


def _size(query: Query | LineError) -> tuple[int, int]:
    """How many events a query has, and how many results it asks for."""
    if isinstance(query, LineError):
        return 0, 0
    return len(tuple(query.events)), query.limit if isinstance(query.limit, int) else _DEFAULT_LIMIT


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(f"{what} must be a JSON object, not {type(value).__name__}")
    return value


def _events(value: object) -> list[Event]:
    if not isinstance(value, list):
        raise RowError("events must be a list")
    return [event_of(row) for row in value]


def _state(value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except ValueError as error:
        raise RowError("state must be in base64, as an answer has it") from error


def _conditions(value: object) -> list[Condition]:
    if not isinstance(value, list):
        raise RowError("conditions must be a list")
    return [_condition(row) for row in value]


def _condition(row: object) -> Condition:
    fields = dict(known(_object(row, "a condition"), _CONDITION_FIELDS, "a condition"))
    attribute = fields.pop("attribute", None)
    for names, make in _CONDITIONS:
        if attribute is not None and fields and fields.keys() <= names:
            return make(attribute, fields)
    rules = ", ".join(" or ".join(sorted(names)) for names, _ in _CONDITIONS)
    raise RowError(f"a condition must have an attribute and one of {rules}")


def _time_range(attribute: str, fields: dict[str, Any]) -> TimeRange:
    moments = {
        name: parse_time(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    return TimeRange(attribute, **moments)


def _category_cap(value: object) -> CategoryCap:
    fields = dict(known(_object(value, "a category cap"), ("attribute", "limit"), "a category cap"))
    if len(fields) != 2:
        raise RowError("a category cap must have an attribute and a limit")
    return CategoryCap(**fields)


_CONDITIONS: tuple[tuple[set[str], Callable[[str, dict[str, Any]], Condition]], ...] = (
    ({"any_of"}, lambda attribute, fields: AnyOf(attribute, fields["any_of"])),
    ({"all_of"}, lambda attribute, fields: AllOf(attribute, fields["all_of"])),
    ({"none_of"}, lambda attribute, fields: NoneOf(attribute, fields["none_of"])),
    ({"min", "max"}, lambda attribute, fields: NumberRange(attribute, **fields)),
    ({"start", "end"}, _time_range),
)
_CONDITION_FIELDS = ("attribute", "any_of", "all_of", "none_of", "min", "max", "start", "end")
_OPTIONS = (
    "allow_item_ids",
    "conditions",
    "min_score",
    "diversity",
    "category_cap",
    "reasons",
    "search_effort",
    "exact",
    "page_token",
)
_NAMES = ("user_id", "events", "state", "limit", "include_seen", "exclude_item_ids", *_OPTIONS)
# All others are taken as they are: the client refuses what it cannot send.
_READ: Mapping[str, Callable[[object], object]] = {
    "events": _events,
    "state": _state,
    "conditions": _conditions,
    "category_cap": _category_cap,
}
