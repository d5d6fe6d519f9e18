"""Files of events or items: found, checked to be what their names say, opened as lazy frames."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from glob import escape
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

import polars as pl
from narwhals.exceptions import NarwhalsError
from polars.exceptions import PanicException, PolarsError

from kinrec.trainer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROW_ORDER = "kinrec.row_order"
"""Int64 column, named as no file would: where a row stood in the input, growing within a file and from file to file."""

_ROW = "kinrec.row"
_ROWS_PER_FILE = 1 << 40  # more than any file has; file number * this + row stays below 2**63
_HEAD_BYTES = 65_536
_OTHER_SEPARATORS = (";", "\t", "|")
_LONGEST_REASON = 200


class Format(Enum):
    """How a file is written."""

    CSV = "CSV"
    PARQUET = "Parquet"
    JSON_LINES = "JSON lines"


_FORMATS = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".jsonl": Format.JSON_LINES,
    ".ndjson": Format.JSON_LINES,
    ".json": Format.JSON_LINES,
}
_PARQUET, _GZIP, _ZSTD = b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_COMPRESSIONS = {".gz": _GZIP, ".zst": _ZSTD}
_SIGNATURES = {
    _PARQUET: "Parquet",
    _GZIP: "gzip",
    _ZSTD: "zstd",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xff\xfe": "UTF-16 text, which must be UTF-8",
    b"\xfe\xff": "UTF-16 text, which must be UTF-8",
}
_SUPPORTED = "supported are .csv, .tsv, .jsonl, .ndjson, .json, plain or .gz or .zst, and .parquet"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file to read.

    Attributes:
        path: Where it lies.
        format: How it is written, going by its name.
        number: Its place among the files of one reading, from 0.
    """

    path: Path
    format: Format
    number: int


def find_files(paths: Sequence[Path]) -> list[DataFile]:
    """List the files that paths name, those of a folder sorted, and check what they hold.

    Names in a folder that start with ``.`` or ``_`` are passed over, as other readers of
    partitioned data do.

    Raises:
        DataError: A path is missing, cannot be opened, has no supported format, or its content
            is not what its name says.
    """
    if not paths:
        raise DataError("no file was given")
    found = [file for path in paths for file in _expand(path)]
    files = [DataFile(path, _format_of(path), number) for number, path in enumerate(found)]
    for file in files:
        _check_content(file)
    return files


def scan(file: DataFile, columns: Sequence[str] | None = None) -> pl.LazyFrame:
    """Open a file as a lazy frame with one more column, ``ROW_ORDER``.

    CSV columns are text, for a reader that guesses types makes 7 of an id 007. So are the named
    columns of JSON lines, which also lets a column hold numbers in one row and text in the next.

    Args:
        file: The file.
        columns: The columns wanted; all if None. Those that the file lacks are left out, but of
            JSON lines hold nulls.

    Raises:
        DataError: The file cannot be read.
    """
    with reading(file):
        if file.format is Format.PARQUET:
            frame = pl.scan_parquet(_source(file), glob=False, row_index_name=_ROW)
        elif file.format is Format.JSON_LINES:
            frame = _scan_json_lines(file, columns)
        else:
            frame = _scan_csv(file, columns)
        names = [name for name in frame.collect_schema().names() if name != _ROW]
    order = pl.col(_ROW).cast(pl.Int64) + file.number * _ROWS_PER_FILE
    kept = names if columns is None else [name for name in names if name in columns]
    return frame.select(*kept, order.alias(ROW_ORDER))


def column_names(file: DataFile) -> list[str]:
    """List the columns of a file, of JSON lines those of every row.

    Raises:
        DataError: The file cannot be read.
    """
    with reading(file):
        if file.format is Format.JSON_LINES:
            schema = pl.scan_ndjson(_source(file), infer_schema_length=None).collect_schema()
            return schema.names()
    return [name for name in scan(file).collect_schema().names() if name != ROW_ORDER]


def row_number(input_order: int) -> int:
    """The number of a row within its file, from 1, the header not counted."""
    return input_order % _ROWS_PER_FILE + 1


@contextmanager
def reading(file: DataFile) -> Iterator[None]:
    """Turn what can go wrong while a file is read into a DataError that names it."""
    try:
        yield
    except (PolarsError, NarwhalsError, PanicException, OSError) as error:
        raise DataError(_reason(error, file.format), file=file.path) from error


def _reason(error: BaseException, wanted: Format) -> str:
    text = str(error).partition("\n")[0][:_LONGEST_REASON]
    if isinstance(error, OSError):
        return f"cannot be read, or is truncated or damaged: {error.strerror or text}"
    if "utf-8" in text.lower():
        return "is not UTF-8 text"
    return f"cannot be read as {wanted.value}: {text}"


def _expand(path: Path) -> list[Path]:
    try:
        mode = path.stat().st_mode
        if S_ISREG(mode):
            return [path]
        if not S_ISDIR(mode):
            raise DataError("is neither a file nor a folder", file=path)
        files = sorted(_walk(path))
    except FileNotFoundError as error:
        raise DataError("there is no such file or folder", file=path) from error
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}", file=path) from error
    if not files:
        raise DataError("the folder holds no files", file=path)
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(parent, name) for name in names if not name.startswith((".", "_")))


def _raise(error: OSError) -> None:
    raise error


def _format_of(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in _COMPRESSIONS
    inner = suffixes[-2:-1] if compressed else suffixes[-1:]
    wanted = _FORMATS.get(inner[0]) if inner else None
    if wanted is None:
        raise DataError(f"has no supported format; {_SUPPORTED}", file=path)
    if wanted is Format.PARQUET and compressed:
        raise DataError("Parquet is compressed within; give the plain .parquet file", file=path)
    return wanted


def _check_content(file: DataFile) -> None:
    """Refuse a file whose first bytes are not those of what its name says."""
    path = file.path
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}", file=path) from error
    if not head:
        raise DataError("is empty", file=path)
    expected = _COMPRESSIONS.get(path.suffix.lower())
    if file.format is Format.PARQUET:
        expected = _PARQUET
    if expected is not None:
        if not head.startswith(expected):
            raise DataError(f"is named {path.suffix} but is not {_SIGNATURES[expected]}", file=path)
        return
    for signature, content in _SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(f"is named {path.suffix} but is {content}", file=path)
    if b"\0" in head:
        raise DataError(f"is named {path.suffix} but is binary, not text", file=path)
    if file.format is Format.JSON_LINES and head.lstrip().startswith(b"["):
        raise DataError("is a JSON array; write one JSON object a line", file=path)


def _source(file: DataFile) -> str:
    # Absolute, for polars takes a leading ~ for the home folder.
    path = str(file.path.absolute())
    return escape(path) if file.format is Format.JSON_LINES else path


def _scan_csv(file: DataFile, columns: Sequence[str] | None) -> pl.LazyFrame:
    frame = _csv_frame(file, ",")
    names = [name for name in frame.collect_schema().names() if name != _ROW]
    if len(names) == 1 and names[0] not in (columns or ()):
        for separator in _OTHER_SEPARATORS:
            if separator in names[0]:
                return _csv_frame(file, separator)
    return frame


def _csv_frame(file: DataFile, separator: str) -> pl.LazyFrame:
    return pl.scan_csv(
        _source(file), separator=separator, infer_schema=False, glob=False, row_index_name=_ROW
    )


def _scan_json_lines(file: DataFile, columns: Sequence[str] | None) -> pl.LazyFrame:
    source = _source(file)
    if columns is None:
        return pl.scan_ndjson(source, infer_schema_length=None, row_index_name=_ROW)
    # Which of the columns exist would take a pass over the file to know.
    schema = dict.fromkeys(columns, pl.String())
    return pl.scan_ndjson(source, schema=schema, row_index_name=_ROW)
