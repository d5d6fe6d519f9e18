"""Raw columns to ids, numbers and times, as Narwhals expressions over lazy frames.

Text is read by patterns and arithmetic, not by a parser that stops at the first value it cannot
read: so the same expressions run on every backend, and what does not fit can be searched for.
Each reading gives null for a missing and for an unreadable value; ``is_missing`` tells the two
apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import narwhals as nw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from narwhals.dtypes import DType

LATEST_TIME = 253_402_300_799.0
"""The end of the year 9999 in seconds since 1970 UTC; times lie within plus and minus this."""

_MISSING = r"(?i)^(nan|nat|null|none|n/?a|\\n)?$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_WHOLE = r"^-?[0-9]+\.0+$"
_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)([.,][0-9]{1,9})?)?"
_ZONE = r"([Zz]|UTC|[+-][0-9]{2}(:?[0-9]{2})?)"
_ISO = rf"^{_DATE}([Tt ]{_CLOCK}( ?{_ZONE})?)?$"
_PLAIN_LENGTH = len("2024-01-02T03:04:05")  # longer ones have a fraction or a zone

# Numbers up to each magnitude count that part of a second: years 1973 to 5138 are told apart.
_UNITS_PER_SECOND = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6))
_NANOSECONDS_PER_SECOND = 1e9
_UNIT_NAMES = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
_EXACT_FLOATS_BELOW = 2.0**53
_LARGEST_FLOAT = 1.7976931348623157e308
_MARCH_0000_TO_1970 = 719_468  # days; years are counted from March, so that leap days come last


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How the times of a column are written; decided for the column, not for each value.

    Attributes:
        iso: Whether they are ISO 8601 text rather than numbers.
        plain: ISO 8601: whether none has a zone or a fraction of a second.
        per_second: Numbers: how many make up a second.
    """

    iso: bool = False
    plain: bool = False
    per_second: float = 1.0

    def __str__(self) -> str:
        unit = _UNIT_NAMES[self.per_second]
        return "an ISO 8601 time" if self.iso else f"a unix time in {unit}, as most of the column"


def is_id(dtype: DType) -> bool:
    """Whether ids can be read from a column of this type."""
    return _is_text(dtype) or dtype.is_numeric()


def is_number(dtype: DType) -> bool:
    """Whether numbers can be read from a column of this type."""
    return _is_text(dtype) or dtype.is_numeric() or dtype == nw.Boolean


def is_time(dtype: DType) -> bool:
    """Whether times can be read from a column of this type."""
    return _is_text(dtype) or dtype.is_numeric() or _is_calendar(dtype)


def is_missing(column: str, dtype: DType) -> nw.Expr:
    """Whether a number or time is null, blank, NaN or a word for it."""
    if _is_text(dtype):
        text = _stripped(column)
        return text.is_null() | text.str.contains(_MISSING)
    if dtype.is_float():
        return nw.col(column).is_null() | nw.col(column).is_nan()
    return nw.col(column).is_null()


def is_blank(column: str) -> nw.Expr:
    """Whether a text is null or has nothing but white space."""
    return nw.col(column).is_null() | (nw.col(column).str.strip_chars() == "")


def count_other_than_whole(column: str, dtype: DType) -> nw.Expr:
    """Count the ids that are not whole numbers written as fractions, 7 as 7.0.

    Where there are none, some writer turned a column of integers with gaps into one of floats.
    """
    if dtype.is_float():
        value = _without_nan(column)
        return ((value != value.floor()) | (value.abs() >= _EXACT_FLOATS_BELOW)).sum()
    text = nw.col(column).cast(nw.String)
    return (~text.str.contains(_WHOLE) & (text.str.strip_chars() != "")).sum()


def to_id(column: str, dtype: DType, *, whole: bool) -> nw.Expr:
    """Read ids as text, whole numbers without the ``.0`` if all of them are ``whole``."""
    if dtype.is_float():
        value = _without_nan(column)
        return value.cast(nw.Int64).cast(nw.String) if whole else value.cast(nw.String)
    text = nw.col(column).cast(nw.String)
    return text.str.replace_all(r"\.0+$", "") if whole and not dtype.is_integer() else text


def to_label(column: str) -> nw.Expr:
    """Read names as text, blank ones as null."""
    text = nw.col(column).cast(nw.String)
    return nw.when(text.str.strip_chars() != "").then(text)


def to_number(column: str, dtype: DType) -> nw.Expr:
    """Read finite numbers as Float64."""
    value = _text_to_number(column) if _is_text(dtype) else nw.col(column).cast(nw.Float64)
    return nw.when(value.abs() <= _LARGEST_FLOAT).then(value)


def survey_times(column: str, dtype: DType) -> dict[str, nw.Expr]:
    """Name the aggregates over a column that ``time_form`` decides by."""
    if _is_calendar(dtype):
        return {}
    if not _is_text(dtype):
        return {"middle": to_number(column, dtype).abs().median()}
    text = _stripped(column)
    return {
        "middle": to_number(column, dtype).abs().median(),
        "numbers": text.str.contains(_NUMBER).sum(),
        "dates": text.str.contains(_ISO).sum(),
        "longest": text.str.len_chars().max(),
    }


def time_form(survey: Mapping[str, float | None]) -> TimeForm:
    """Decide how the times of a column are written by what most of them look like.

    Args:
        survey: The results of ``survey_times``; null where there was nothing to aggregate.
    """
    if (survey.get("dates") or 0) > (survey.get("numbers") or 0):
        return TimeForm(iso=True, plain=(survey.get("longest") or 0) <= _PLAIN_LENGTH)
    middle = survey.get("middle") or 0.0
    for limit, per_second in _UNITS_PER_SECOND:
        if middle < limit:
            return TimeForm(per_second=per_second)
    return TimeForm(per_second=_NANOSECONDS_PER_SECOND)


def to_time(column: str, dtype: DType, form: TimeForm) -> nw.Expr:
    """Read times as Float64 seconds since 1970 UTC; those without a zone are taken as UTC."""
    if _is_calendar(dtype):
        return nw.col(column).dt.timestamp("us").cast(nw.Float64) / 1e6
    if form.iso:
        return _iso_to_time(column, plain=form.plain)
    seconds = to_number(column, dtype) / form.per_second
    return nw.when(seconds.abs() <= LATEST_TIME).then(seconds)


def _is_text(dtype: DType) -> bool:
    # Unknown is a column of nothing but nulls.
    return dtype in (nw.String, nw.Categorical, nw.Enum, nw.Binary, nw.Unknown)


def _is_calendar(dtype: DType) -> bool:
    return dtype in (nw.Datetime, nw.Date)


def _stripped(column: str) -> nw.Expr:
    return nw.col(column).cast(nw.String).str.strip_chars()


def _without_nan(column: str) -> nw.Expr:
    return nw.when(~nw.col(column).is_nan()).then(nw.col(column))


def _text_to_number(column: str) -> nw.Expr:
    text = _stripped(column)
    return nw.when(text.str.contains(_NUMBER)).then(text).cast(nw.Float64)


def _iso_to_time(column: str, *, plain: bool) -> nw.Expr:
    stripped = _stripped(column)
    text = nw.when(stripped.str.contains(_ISO)).then(stripped)
    year, month, day = _digits(text, 0, 4), _digits(text, 5, 2), _digits(text, 8, 2)
    hour, minute = _digits(text, 11, 2), _digits(text, 14, 2)
    if plain:
        past_minute, offset = _digits(text, 17, 2).cast(nw.Float64), nw.lit(0)
    else:
        past_minute, offset = _past_minute(text), _zone_offset(text)
    seconds = _days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 - offset
    return nw.when(day <= _days_in(year, month)).then(seconds + past_minute)


def _digits(text: nw.Expr, offset: int, length: int) -> nw.Expr:
    # The zero makes nothing, where a time is not given in full, a 0.
    return nw.concat_str(nw.lit("0"), text.str.slice(offset, length)).cast(nw.Int64)


def _past_minute(text: nw.Expr) -> nw.Expr:
    """Seconds past the minute with their fraction."""
    pattern = r"^.{10}(?:.[0-9]{2}:[0-9]{2}(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?.*$"
    return text.str.replace_all(pattern, "0$1.$2").cast(nw.Float64)


def _zone_offset(text: nw.Expr) -> nw.Expr:
    """Seconds that the local time is ahead of UTC."""
    pattern = r"^.{10}[0-9:.,Tt ]*(?:([+-][0-9]{2}):?([0-9]{2})?|[Zz]|UTC)?$"
    offset = text.str.replace_all(pattern, "$1$2")
    ahead = _digits(offset, 1, 2) * 3600 + _digits(offset, 3, 2) * 60
    return nw.when(offset.str.starts_with("-")).then(-ahead).otherwise(ahead)


def _days_since_1970(year: nw.Expr, month: nw.Expr, day: nw.Expr) -> nw.Expr:
    from_march = nw.when(month > 2).then(month - 3).otherwise(month + 9)
    march_year = nw.when(month > 2).then(year).otherwise(year - 1)
    leap_days = march_year // 4 - march_year // 100 + march_year // 400
    before_month = (153 * from_march + 2) // 5
    return 365 * march_year + leap_days + before_month + day - 1 - _MARCH_0000_TO_1970


def _days_in(year: nw.Expr, month: nw.Expr) -> nw.Expr:
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    february = nw.when(is_leap).then(nw.lit(29)).otherwise(nw.lit(28))
    short = nw.when((month == 4) | (month == 6) | (month == 9) | (month == 11)).then(nw.lit(30))
    return nw.when(month == 2).then(february).otherwise(short.otherwise(nw.lit(31)))
