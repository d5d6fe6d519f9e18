"""Item attributes: which columns of the items they are, of what kind, and what they lack.

A kind is decided for a column by all that it holds, in every file, and not for each entry.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from kinrec.engine.columns import NumberColumn, TextColumn
from kinrec.trainer import fields
from kinrec.trainer.cleaning import CleaningStep
from kinrec.trainer.cleaning_config import (
    CONSTANT,
    DROP,
    MEAN,
    MEDIAN,
    MOST_FREQUENT,
    Filling,
    methods_rule,
)
from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.frames import settle
from kinrec.trainer.reading import ITEM_ID, NUMBER, TEXT, TIME, TITLE, ItemColumns, example
from kinrec.trainer.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from narwhals.dtypes import DType
    from numpy.typing import NDArray

    from kinrec.engine.columns import Column
    from kinrec.trainer.cleaning_config import CleaningConfig
    from kinrec.trainer.log import EventLog

MAX_ATTRIBUTES = 100
_NEARLY_ALL = 0.9

_KIND_WORDS = {TEXT: "text", NUMBER: "numbers", TIME: "times"}
_CONSTANTS = {TEXT: "constant:TEXT", NUMBER: "constant:NUMBER", TIME: "constant:TIME"}
_SEPARATORS = (";", "|", ",")
_MANY, _OFTEN = 5, 0.1  # entries with a separator, and their share of all
_PADDED = r"^[+-]?0[0-9]"  # a code, such as a postal one, and not a number


@dataclass(frozen=True, slots=True)
class ItemAttributes:
    """The attributes of all items of the files.

    Attributes:
        item_ids: The items.
        kinds: ``text``, ``number`` or ``time`` by name, in the order of the columns.
        entries: By name, one entry for each item: of texts the list of them, else a number, seconds
            since 1970 UTC of times; None where it is missing.
        notes: What was decided about a column, though nobody said so, and may be a mistake.
    """

    item_ids: list[str]
    kinds: Mapping[str, str]
    entries: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...] = ()

    def items_with(self, name: str) -> list[str]:
        """List the items that have an entry of an attribute."""
        entries = self.entries[name]
        return [
            key for key, entry in zip(self.item_ids, entries, strict=True) if not _is_missing(entry)
        ]


def read_attributes(items: nw.LazyFrame[Any], columns: ItemColumns) -> ItemAttributes:
    """Find and read the attributes of items.

    Texts and truth values are text, and lists of texts, whole numbers or truth values are several.
    Text of which every entry is a number, or a time in ISO 8601, is of numbers or times, unless a
    number begins with a zero that counts nothing. Texts lose the blanks around them.

    Args:
        items: As ``read_items`` gives them.
        columns: The names of the columns, which of them are attributes and how they are written.

    Raises:
        DataError: A column is not there, cannot be of the kind that it should be, or has an entry
            that cannot be read; names the column and the item.
    """
    schema = items.collect_schema()
    chosen, notes = _choose(schema, columns)
    items, _ = settle(items.select(ITEM_ID, *chosen))
    survey = _survey(items, schema, chosen)
    kinds = {name: _kind(name, schema[name], columns, survey[name]) for name in chosen}
    readings = {
        name: _reading(name, schema[name], kind, survey[name]) for name, kind in kinds.items()
    }
    _check_entries(items, schema, kinds, readings, survey)
    selected = [readings[name].alias(name) for name in chosen]
    frame = items.select(nw.col(ITEM_ID), *selected).collect()
    separators = dict(columns.attribute_separator)
    entries: dict[str, list[Any]] = {}
    for name, kind in kinds.items():
        found = frame[name].to_list()
        if kind == TEXT:
            separator = separators.get(name)
            notes += _uncut(name, found) if separator is None else []
            found = [_texts(entry, separator) for entry in found]
        entries[name] = found
    notes += [note for name in chosen for note in _near_misses(name, kinds[name], survey[name])]
    return ItemAttributes(frame[ITEM_ID].to_list(), kinds, entries, tuple(notes))


def check_fillings(attributes: ItemAttributes | None, config: CleaningConfig) -> None:
    """Raise ConfigError where what is to be filled in is no attribute, or of another kind.

    Args:
        attributes: The attributes; None without items.
        config: What becomes of missing entries.
    """
    for name, text in config.missing_attribute:
        key = f"missing_attribute.{name}"
        if attributes is None:
            raise ConfigError(key, text, "needs items")
        if name not in attributes.kinds:
            there = ", ".join(attributes.kinds) or "none"
            raise ConfigError(key, text, f"is not an attribute of the items; there are {there}")
        _read_filling(name, attributes.kinds[name], config)


def with_attributes(log: EventLog, attributes: ItemAttributes, config: CleaningConfig) -> EventLog:
    """Add the attributes of the items of the log, with what is filled in for missing ones.

    What is filled in goes by the items of the log. An attribute that none of them has is left out.

    Args:
        log: The log.
        attributes: Of the items, those of the log and others.
        config: What becomes of missing entries.
    """
    numbers = log.items.get_all(attributes.item_ids)
    columns: dict[str, Column] = {}
    steps, notes = list(log.cleaning), [*log.notes, *attributes.notes]
    for name, kind in attributes.kinds.items():
        entries: list[Any] = [None] * len(log.items)
        for number, entry in zip(numbers, attributes.entries[name], strict=True):
            if number is not None:
                entries[number] = entry
        missing = [place for place, entry in enumerate(entries) if _is_missing(entry)]
        if len(missing) == len(entries):
            notes.append(f"column {name} of the items is no attribute: no item of the log has it")
            continue
        filling = _read_filling(name, kind, config)
        if filling.method in {CONSTANT, MEAN, MEDIAN, MOST_FREQUENT}:
            known = (entry for entry in entries if not _is_missing(entry))
            substitute = _substitute(known, kind, filling)
            for place in missing:
                entries[place] = substitute
            step = CleaningStep(_step(name), 0, len(log.histories.items), len(missing))
            steps.append(step)
        columns[name] = _column(entries, kind)
    return replace(log, attributes=columns, cleaning=tuple(steps), notes=tuple(notes))


def items_to_keep(attributes: ItemAttributes, config: CleaningConfig) -> dict[str, list[str]]:
    """Give, by step of the cleaning, the items whose events are not dropped for a missing entry."""
    return {
        _step(name): attributes.items_with(name)
        for name, _ in config.missing_attribute
        if config.attribute_filling(name).method == DROP
    }


def _step(name: str) -> str:
    return f"missing_attribute.{name}"


def _choose(schema: nw.Schema, columns: ItemColumns) -> tuple[list[str], list[str]]:
    """Choose the columns that are attributes, and say which others are none."""
    others = [name for name in schema.names() if name not in {ITEM_ID, TITLE}]
    named = [*(columns.attributes or ()), *columns.described]
    for name in named:
        if name not in others:
            listed = ", ".join(map(example, others[:MAX_ATTRIBUTES])) or "none"
            rule = f"missing; the columns of the items beside id and title are {listed}"
            raise DataError(rule, column=name)
    if columns.attributes is not None:
        return list(columns.attributes), []
    chosen, notes = [], []
    for name in others:
        if name and (name in named or _can_be_text(schema[name]) or fields.is_time(schema[name])):
            chosen.append(name)
        else:
            what = f"is of type {schema[name]}" if name else "has no name"
            notes.append(f"column {example(name)} of the items is no attribute: it {what}")
    if len(chosen) > MAX_ATTRIBUTES:
        raise DataError(
            f"the items have {len(chosen)} columns beside id and title, of which at most "
            f"{MAX_ATTRIBUTES} can be attributes; name them by attributes"
        )
    return chosen, notes


def _survey(
    items: nw.LazyFrame[Any], schema: nw.Schema, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Gather in one pass what the columns look like, by name."""
    aggregates: dict[tuple[str, str], nw.Expr] = {}
    for name in names:
        dtype = schema[name]
        if not fields.is_time(dtype):
            continue
        found = fields.survey_times(name, dtype)
        if "numbers" in found:
            found["present"] = (~fields.is_missing(name, dtype)).sum()
            found["padded"] = nw.col(name).cast(nw.String).str.contains(_PADDED).sum()
        if dtype.is_float():
            found["uncommon"] = fields.count_other_than_whole(name, dtype)
        aggregates |= {(name, what): expression for what, expression in found.items()}
    survey: dict[str, dict[str, Any]] = {name: {} for name in names}
    if aggregates:
        selected = [each.alias(str(place)) for place, each in enumerate(aggregates.values())]
        row = items.select(*selected).collect().row(0)
        for (name, what), value in zip(aggregates, row, strict=True):
            survey[name][what] = value
    return survey


def _kind(name: str, dtype: DType, columns: ItemColumns, survey: Mapping[str, Any]) -> str:
    """Decide the kind of a column."""
    wanted = dict(columns.attribute_kind).get(name)
    if wanted is None and name in dict(columns.attribute_separator):
        wanted = TEXT
    kind = wanted or _likely_kind(dtype, survey)
    if not _CAN_BE[kind](dtype):
        rule = f"is of type {dtype}, from which no attribute of {_KIND_WORDS[kind]} can be read"
        raise DataError(rule, column=name)
    return kind


def _likely_kind(dtype: DType, survey: Mapping[str, Any]) -> str:
    if dtype.is_numeric():
        return NUMBER
    present = survey.get("present")
    if not fields.is_time(dtype) or present == 0:
        return TEXT
    if present is None:
        return TIME  # of a type for times
    if survey["numbers"] == present and not survey["padded"]:
        return NUMBER
    return TIME if survey["dates"] == present else TEXT


def _near_misses(name: str, kind: str, survey: Mapping[str, Any]) -> list[str]:
    """Say of what a text is that only a few entries keep from being numbers or times."""
    present = survey.get("present") or 0
    return [
        f"attribute {name} is text: all but {present - survey[what]:,} of {present:,} entries are "
        f"{words}"
        for what, words in (("numbers", "numbers"), ("dates", "times"))
        if kind == TEXT and _NEARLY_ALL * present <= survey.get(what, 0) < present
    ]


def _uncut(name: str, entries: Sequence[Any]) -> Iterator[str]:
    """Say so if entries look like several texts each, of which the log's owner did not say so."""
    whole = [entry for entry in entries if isinstance(entry, str)]
    for separator in _SEPARATORS:
        with_it = [entry for entry in whole if separator in entry]
        if len(with_it) < max(_MANY, _OFTEN * len(whole)):
            continue
        parts = {part.strip() for entry in whole for part in entry.split(separator)}
        if len(parts) < len(set(whole)):  # of a title or a sentence they would be more
            yield (
                f"attribute {name}: entries such as {example(with_it[0])} look like several texts; "
                f'attribute_separator "{name}={separator}" cuts them'
            )
            return


def _can_be_text(dtype: DType) -> bool:
    inner: Any = dtype.inner if isinstance(dtype, nw.List) else dtype
    if inner is not dtype and inner.is_numeric():
        return bool(inner.is_integer())  # a list of other numbers is a vector
    return fields.is_id(inner) or inner == nw.Boolean


_CAN_BE: dict[str, Callable[[DType], bool]] = {
    TEXT: _can_be_text,
    NUMBER: fields.is_number,
    TIME: fields.is_time,
}


def _reading(name: str, dtype: DType, kind: str, survey: Mapping[str, Any]) -> nw.Expr:
    """Say how the entries of a column are read."""
    if kind == NUMBER:
        return fields.to_number(name, dtype)
    if kind == TIME:
        return fields.to_time(name, dtype, fields.time_form(survey))
    if isinstance(dtype, nw.List):
        return nw.col(name)
    if dtype.is_numeric():
        return fields.to_id(name, dtype, whole=not survey.get("uncommon"))
    return nw.col(name).cast(nw.String)


def _check_entries(
    items: nw.LazyFrame[Any],
    schema: nw.Schema,
    kinds: Mapping[str, str],
    readings: Mapping[str, nw.Expr],
    survey: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse numbers and times that are there but cannot be read."""
    for name, kind in kinds.items():
        if kind == TEXT:
            continue
        unreadable = readings[name].is_null() & ~fields.is_missing(name, schema[name])
        bad = items.filter(unreadable).select(ITEM_ID, name).head(1).collect()
        if len(bad):
            wanted = "a number" if kind == NUMBER else str(fields.time_form(survey[name]))
            item, entry = bad[ITEM_ID].item(), bad[name].item()
            raise DataError(f"{example(entry)} of item {item} is not {wanted}", column=name)


def _texts(entry: Any, separator: str | None) -> list[str]:  # noqa: ANN401 - a column's entry
    """Give the texts of an entry, without the blanks around them."""
    parts = entry if isinstance(entry, list) else [entry]
    texts = [_text(part).replace("\0", "") for part in parts if part is not None]
    if separator:
        texts = [part for text in texts for part in text.split(separator)]
    return [text.strip() for text in texts if text.strip()]


def _text(part: object) -> str:
    # As a column of truth values is read.
    return str(part).lower() if isinstance(part, bool) else str(part)


def _is_missing(entry: object) -> bool:
    return entry is None or entry == []


def _read_filling(name: str, kind: str, config: CleaningConfig) -> Filling:
    """Say what becomes of the missing entries of an attribute, with a constant of its kind.

    Raises:
        ConfigError: There is no such thing for the kind.
    """
    filling, key = config.attribute_filling(name), f"missing_attribute.{name}"
    if kind == TEXT and filling.method in {MEAN, MEDIAN}:
        rule = methods_rule("missing_attribute", without=(MEAN, MEDIAN))
        raise ConfigError(key, filling.method, f"{rule}, as the attribute is of text")
    if filling.method != CONSTANT or kind == TEXT:
        return filling
    text = str(filling.constant)
    if kind == TIME:
        return replace(filling, constant=parse_time(key, text))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        rule = f"must be {_CONSTANTS[kind]}, as the attribute is of numbers"
        raise ConfigError(key, f"{CONSTANT}:{text}", rule)
    return replace(filling, constant=value)


def _substitute(known: Iterable[Any], kind: str, filling: Filling) -> list[str] | float:
    """Give what stands for missing entries; of equally frequent ones the least."""
    if filling.method == CONSTANT:
        return [str(filling.constant)] if kind == TEXT else float(filling.constant or 0.0)
    if kind == TEXT:
        return [_most_frequent(text for texts in known for text in dict.fromkeys(texts))]
    numbers = np.array(list(known), np.float64)
    if filling.method == MOST_FREQUENT:
        return float(_most_frequent(numbers.tolist()))
    return float(numbers.mean() if filling.method == MEAN else np.median(numbers))


def _most_frequent(entries: Iterable[Any]) -> Any:  # noqa: ANN401 - texts or numbers
    counts = Counter(entries)
    most = max(counts.values())
    return min(entry for entry, count in counts.items() if count == most)


def _column(entries: Sequence[Any], kind: str) -> Column:
    if kind == TEXT:
        return TextColumn.build([entry or () for entry in entries])
    numbers: NDArray[np.float64] = np.array(entries, np.float64)  # None becomes NaN
    return NumberColumn(numbers, is_time=kind == TIME)
