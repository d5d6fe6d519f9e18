"""Events and items from files to lazy frames with the same columns, whatever the files look like.

Polars opens the files; what happens to the columns is written in Narwhals.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import narwhals as nw

from kinrec.trainer import fields
from kinrec.trainer.errors import ConfigError, DataError
from kinrec.trainer.files import (
    ROW_ORDER,
    DataFile,
    Format,
    column_names,
    find_files,
    reading,
    row_number,
    scan,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from narwhals.dtypes import DType

USER_ID = "user_id"
ITEM_ID = "item_id"
EVENT_TYPE = "event_type"
TIMESTAMP = "timestamp"
VALUE = "value"
INPUT_ORDER = "input_order"
TITLE = "title"

TEXT = "text"
NUMBER = "number"
TIME = "time"
ATTRIBUTE_KINDS = (TEXT, NUMBER, TIME)
"""What an attribute of items can be."""

EVENT_COLUMNS = (USER_ID, ITEM_ID, EVENT_TYPE, TIMESTAMP, VALUE)
"""What an event is; ``INPUT_ORDER`` stands beside it."""

_LONGEST_EXAMPLE = 60
_MOST_NAMES = 20
_TEXT_COLUMN = "text or whole numbers"


@dataclass(frozen=True, slots=True)
class EventColumns:
    """The names of the columns of an event log.

    Attributes:
        user: Who did it. Text or whole numbers.
        item: With which item. Text or whole numbers.
        time: When. ISO 8601, dates, or seconds, milli-, micro- or nanoseconds since 1970.
        type: What was done. A log may lack the column while this is the default.
        value: A measure, e.g. a rating. A log may lack the column while this is the default.
    """

    user: str = USER_ID
    item: str = ITEM_ID
    time: str = TIMESTAMP
    type: str = EVENT_TYPE
    value: str = VALUE

    def __post_init__(self) -> None:
        _check_names({f"{role}_column": name for role, name in asdict(self).items()})

    @property
    def required(self) -> dict[str, str]:
        """The columns without which a log cannot be read, each with the setting that names it."""
        required = {
            self.user: "user_column",
            self.item: "item_column",
            self.time: "time_column",
        }
        if self.type != EVENT_TYPE:
            required[self.type] = "type_column"
        if self.value != VALUE:
            required[self.value] = "value_column"
        return required


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """The names of the columns of a list of items.

    Attributes:
        item: The item's id. Text or whole numbers.
        title: What to call it. A list may lack the column while this is the default.
        attributes: The columns that are attributes; every other column if None.
        attribute_kind: Of some attributes whether they are ``text``, ``number`` or ``time``; of the
            others the column says it.
        attribute_separator: What stands between the texts of an attribute that has several.
    """

    item: str = ITEM_ID
    title: str = TITLE
    attributes: tuple[str, ...] | None = None
    attribute_kind: tuple[tuple[str, str], ...] = ()
    attribute_separator: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_names({"items_item_column": self.item, "title_column": self.title})
        _check_attributes(self)

    @property
    def described(self) -> tuple[str, ...]:
        """The attributes of which more is said than that they are some."""
        return tuple(name for name, _ in (*self.attribute_kind, *self.attribute_separator))


class _Check(NamedTuple):
    """A column whose every value must be readable."""

    column: str
    reading: nw.Expr
    dtype: DType
    kind: str

    @property
    def unreadable(self) -> nw.Expr:
        return self.reading.is_null() & ~fields.is_missing(self.column, self.dtype)


def read_events(paths: Sequence[Path], columns: EventColumns) -> nw.LazyFrame[Any]:
    """Open event logs.

    Every file is looked through once, so that what is wrong with it is said here; the rows are
    read when the frame is collected.

    Args:
        paths: CSV, Parquet or JSON lines, or folders of them.
        columns: The names of the columns.

    Returns:
        ``user_id``, ``item_id``, ``event_type`` (String), ``timestamp`` (Float64, seconds since
        1970 UTC), ``value`` (Float64) and ``input_order`` (Int64); a value that is missing, or
        whose column is, is null. The order of the rows is that of ``input_order``.

    Raises:
        DataError: A file cannot be used; names the file, the column and the rule.
    """
    files = find_files(paths)
    frames, rows = [], 0
    for file in files:
        frame, count = _read_event_file(file, columns)
        frames.append(frame)
        rows += count
    if rows == 0:
        raise DataError("holds no events", file=files[0].path)
    return nw.concat(frames, how="vertical")


def columns_without_types(paths: Sequence[Path], columns: EventColumns) -> list[str]:
    """List the columns of event logs that are not read; none if a file has the one of event types.

    Raises:
        DataError: A file cannot be read.
    """
    names = list(dict.fromkeys(name for file in find_files(paths) for name in column_names(file)))
    if columns.type in names:
        return []
    return [name for name in names if name not in {*asdict(columns).values()}][:_MOST_NAMES]


def read_items(paths: Sequence[Path], columns: ItemColumns) -> nw.LazyFrame[Any]:
    """Open lists of items.

    Args:
        paths: CSV, Parquet or JSON lines, or folders of them.
        columns: The names of the columns.

    Returns:
        ``item_id`` and ``title`` (String, null if missing), then all other columns as they are.
        One row per item, the first if an id comes again; rows without an id are left out.

    Raises:
        DataError: A file cannot be used; names the file, the column and the rule.
    """
    files = find_files(paths)
    frames = [_read_item_file(file, columns) for file in files]
    _check_same_types(files, frames)
    frame = nw.concat(frames, how="diagonal")
    with reading(files[-1]):
        names = [name for name in frame.collect_schema().names() if name != ROW_ORDER]
        frame = frame.filter(~fields.is_blank(ITEM_ID))
        frame = frame.unique(ITEM_ID, keep="first", order_by=ROW_ORDER)
        rows = frame.select(nw.len()).collect().item()
    if rows == 0:
        raise DataError("holds no items", file=files[0].path)
    return frame.sort(ROW_ORDER).select(names)


def _read_event_file(file: DataFile, columns: EventColumns) -> tuple[nw.LazyFrame[Any], int]:
    """Open one event log and count its rows."""
    wanted = [columns.user, columns.item, columns.time, columns.type, columns.value]
    frame = nw.from_native(scan(file, wanted))
    schema = frame.collect_schema()
    _require(file, schema.names(), columns.required)
    _check_types(file, schema, columns)
    survey = _survey(file, frame, schema, columns)
    if file.format is Format.JSON_LINES:
        empty = {
            name: setting
            for name, setting in columns.required.items()
            if not survey[f"present {name}"]
        }
        if empty and survey["rows"]:
            _require(file, column_names(file), empty)
    form = fields.time_form(survey)
    canonical = _canonical(schema, columns, survey, form)
    checks = [_Check(columns.time, canonical[TIMESTAMP], schema[columns.time], str(form))]
    if columns.value in schema:
        checks.append(_Check(columns.value, canonical[VALUE], schema[columns.value], "a number"))
    _check_values(file, frame, checks)
    selected = [canonical[name].alias(name) for name in EVENT_COLUMNS]
    return frame.select(*selected, nw.col(ROW_ORDER).alias(INPUT_ORDER)), int(survey["rows"] or 0)


def _read_item_file(file: DataFile, columns: ItemColumns) -> nw.LazyFrame[Any]:
    frame = nw.from_native(scan(file))
    schema = frame.collect_schema()
    required = {columns.item: "item_column, or items_item_column for items alone,"}
    if columns.title != TITLE:
        required[columns.title] = "title_column"
    _require(file, schema.names(), required)
    if not fields.is_id(schema[columns.item]):
        raise _type_error(file, columns.item, schema, _TEXT_COLUMN)
    with reading(file):
        uncommon = fields.count_other_than_whole(columns.item, schema[columns.item])
        whole = not frame.select(uncommon.alias("uncommon")).collect().item()
    item = fields.to_id(columns.item, schema[columns.item], whole=whole)
    title = fields.to_label(columns.title) if columns.title in schema else _no_text()
    taken = {columns.item, columns.title, ITEM_ID, TITLE}
    others = [name for name in schema.names() if name not in taken]
    return frame.select(item.alias(ITEM_ID), title.alias(TITLE), *others)


def _check_same_types(files: Sequence[DataFile], frames: Sequence[nw.LazyFrame[Any]]) -> None:
    known: dict[str, DType] = {}
    for file, frame in zip(files, frames, strict=True):
        for name, dtype in frame.collect_schema().items():
            if known.setdefault(name, dtype) != dtype:
                rule = f"is of type {dtype}, but of type {known[name]} in a file before"
                raise DataError(rule, file=file.path, column=name)


def _survey(
    file: DataFile, frame: nw.LazyFrame[Any], schema: nw.Schema, columns: EventColumns
) -> dict[str, float | None]:
    """Gather in one pass what the columns look like."""
    aggregates = {"rows": nw.len(), **fields.survey_times(columns.time, schema[columns.time])}
    for name in columns.required:
        aggregates[f"present {name}"] = nw.col(name).count()
    for name in (columns.user, columns.item):
        aggregates[f"uncommon {name}"] = fields.count_other_than_whole(name, schema[name])
    with reading(file):
        row = frame.select(*(what.alias(name) for name, what in aggregates.items())).collect()
    return {name: row[name].item() for name in aggregates}


def _canonical(
    schema: nw.Schema,
    columns: EventColumns,
    survey: Mapping[str, float | None],
    form: fields.TimeForm,
) -> dict[str, nw.Expr]:
    """Say how each canonical column comes from the columns of the file."""

    def identity(name: str) -> nw.Expr:
        return fields.to_id(name, schema[name], whole=not survey[f"uncommon {name}"])

    has_type, has_value = columns.type in schema, columns.value in schema
    return {
        USER_ID: identity(columns.user),
        ITEM_ID: identity(columns.item),
        EVENT_TYPE: fields.to_label(columns.type) if has_type else _no_text(),
        TIMESTAMP: fields.to_time(columns.time, schema[columns.time], form),
        VALUE: (
            fields.to_number(columns.value, schema[columns.value])
            if has_value
            else nw.lit(None).cast(nw.Float64)
        ),
    }


def _check_values(file: DataFile, frame: nw.LazyFrame[Any], checks: Sequence[_Check]) -> None:
    """Refuse a file with times or values that are there but cannot be read."""
    with reading(file):
        counts = frame.select(*(check.unreadable.sum().alias(check.column) for check in checks))
        unreadable = counts.collect().row(0)
        for check, count in zip(checks, unreadable, strict=True):
            if count:
                bad = frame.filter(check.unreadable).sort(ROW_ORDER).head(1).collect()
                row = row_number(bad[ROW_ORDER].item())
                rule = f"row {row}: {example(bad[check.column].item())} is not {check.kind}"
                raise DataError(rule, file=file.path, column=check.column)


def _require(file: DataFile, names: Sequence[str], required: Mapping[str, str]) -> None:
    """Refuse a file without a column; of each required one ``required`` has the setting."""
    for name, setting in required.items():
        if name not in names:
            found = column_names(file)
            listed = ", ".join(example(other) for other in found[:_MOST_NAMES])
            rest = ", …" if len(found) > _MOST_NAMES else ""
            rule = f"missing; {setting} names it, and the file's columns are {listed}{rest}"
            raise DataError(rule, file=file.path, column=name)


def _check_types(file: DataFile, schema: nw.Schema, columns: EventColumns) -> None:
    for name in (columns.user, columns.item):
        if not fields.is_id(schema[name]):
            raise _type_error(file, name, schema, _TEXT_COLUMN)
    if not fields.is_time(schema[columns.time]):
        raise _type_error(file, columns.time, schema, "times, text or numbers")
    if columns.type in schema and not fields.is_id(schema[columns.type]):
        raise _type_error(file, columns.type, schema, "text")
    if columns.value in schema and not fields.is_number(schema[columns.value]):
        raise _type_error(file, columns.value, schema, "numbers")


def _type_error(file: DataFile, name: str, schema: nw.Schema, wanted: str) -> DataError:
    found: DType = schema[name]
    return DataError(f"is of type {found}, must be {wanted}", file=file.path, column=name)


def _no_text() -> nw.Expr:
    return nw.lit(None).cast(nw.String)


def example(value: object) -> str:
    """Write an entry of a column for an error, cut short if it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…"


def _check_attributes(columns: ItemColumns) -> None:
    """Raise ConfigError where what is said of attributes does not go together."""
    names = columns.attributes or ()
    if len(set(names)) < len(names):
        raise ConfigError("attributes", names, "must be different columns")
    for name in (*names, *columns.described):
        if not name or name in {columns.item, columns.title}:
            rule = "must be a column beside those of the id and the title"
            raise ConfigError("attributes", name, rule)
        if columns.attributes is not None and name not in names:
            raise ConfigError("attributes", names, f"must have {name}, of which more is said")
    kinds = dict(columns.attribute_kind)
    for name, kind in kinds.items():
        if kind not in ATTRIBUTE_KINDS:
            rule = f"must be one of {', '.join(ATTRIBUTE_KINDS)}"
            raise ConfigError(f"attribute_kind.{name}", kind, rule)
    for name, separator in columns.attribute_separator:
        if not separator or kinds.get(name, TEXT) != TEXT:
            rule = "must be some text, of an attribute of text"
            raise ConfigError(f"attribute_separator.{name}", separator, rule)


def _check_names(names: Mapping[str, str]) -> None:
    """Raise ConfigError where a column has no name or one that another has; by setting."""
    taken: dict[str, str] = {}
    for setting, name in names.items():
        if not name:
            raise ConfigError(setting, name, "must be the name of a column")
        if name in taken:
            raise ConfigError(setting, name, f"must be another column than that of {taken[name]}")
        taken[name] = setting
