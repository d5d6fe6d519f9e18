"""Raw columns to ids, numbers and times, as Narwhals expressions over lazy frames.

Patterns decide which texts are read, so that no cast or parser meets one that it would stop at:
the same expressions run on every backend, and what does not fit can be searched for. Each reading gives null for a missing and for an unreadable value; ``is_missing`` tells the two
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
# Only days that exist, for what matches is given to a parser that raises on any other.
_LEAP_YEAR = r"([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DATE = (
    r"([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)"
)
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?"
_ZONE = r"(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)"
_ISO = rf"^{_DATE}([T ]{_CLOCK}( ?{_ZONE})?)?$"
_HAS_SECONDS = r"^.{16}:"
_HAS_FRACTION = r"^.{19}[.,]"
_FRACTION_COUNTS = r"^.{19}[.,][0-9]*[1-9]"
_ZONE_COUNTS = r"^.{16}.*[+-][0-9:]*[1-9]"

# Numbers up to each magnitude count that part of a second: years 1973 to 5138 are told apart.
_UNITS_PER_SECOND = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6))
_NANOSECONDS_PER_SECOND = 1e9
_UNIT_NAMES = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
_EXACT_FLOATS_BELOW = 2.0**53
_LARGEST_FLOAT = 1.7976931348623157e308


@dataclass(frozen=True, slots=True)
class TimeForm:
    """How the times of a column are written; decided for the column, not for each value.

    Attributes:
        iso: Whether they are ISO 8601 text rather than numbers.
        has_fractions: ISO 8601: whether any has a fraction of a second.
        has_zones: ISO 8601: whether any has a zone other than UTC.
        per_second: Numbers: how many make up a second; 0 where nothing looks like a time.
    """

    iso: bool = False
    has_fractions: bool = False
    has_zones: bool = False
    per_second: float = 1.0

    def __str__(self) -> str:
        if self.iso:
            return "an ISO 8601 time"
        if not self.per_second:
            return "a time, ISO 8601 or unix"
        return f"a unix time in {_UNIT_NAMES[self.per_second]}, as most of the column"


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
        "fractions": text.str.contains(_FRACTION_COUNTS).sum(),
        "zones": text.str.contains(_ZONE_COUNTS).sum(),
    }


def time_form(survey: Mapping[str, float | None]) -> TimeForm:
    """Decide how the times of a column are written by what most of them look like.

    As many dates as numbers are dates: a number among dates is more often a slip than the other way round.

    Args:
        survey: The results of ``survey_times``; null where there was nothing to aggregate.
    """
    dates, numbers = survey.get("dates") or 0, survey.get("numbers") or 0
    if dates and dates >= numbers:
        fractions, zones = bool(survey["fractions"]), bool(survey["zones"])
        return TimeForm(iso=True, has_fractions=fractions, has_zones=zones)
    if survey.get("numbers") == 0:
        return TimeForm(per_second=0.0)
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
        return _iso_to_time(column, form)
    seconds = to_number(column, dtype) / (form.per_second or 1.0)
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


def _iso_to_time(column: str, form: TimeForm) -> nw.Expr:
    stripped = _stripped(column)
    text = nw.when(stripped.str.contains(_ISO)).then(stripped)
    is_day = text.str.len_chars() == len("2024-01-02")
    has_seconds = text.str.contains(_HAS_SECONDS)
    local = nw.coalesce(
        _parse(nw.when(has_seconds).then(text.str.slice(0, 19)), "%Y-%m-%dT%H:%M:%S"),
        _parse(nw.when(~is_day & ~has_seconds).then(text.str.slice(0, 16)), "%Y-%m-%dT%H:%M"),
        _parse(nw.when(is_day).then(text), "%Y-%m-%d"),
    )
    # What most columns do not need takes longer than the rest.
    if form.has_zones:
        local = local - _zone_offset(text)
    if form.has_fractions:
        local = local + _fraction(text)
    return local


def _parse(text: nw.Expr, layout: str) -> nw.Expr:
    time = text.str.replace_all(" ", "T", literal=True).str.to_datetime(layout)
    return time.dt.timestamp("us").cast(nw.Float64) / 1e6


def _fraction(text: nw.Expr) -> nw.Expr:
    """Seconds past the full one."""
    past_point = nw.when(text.str.contains(_HAS_FRACTION)).then(text.str.slice(20))
    digits = past_point.str.replace_all(r"[^0-9].*$", "")
    return nw.concat_str(nw.lit("0."), digits.fill_null("0")).cast(nw.Float64)


def _zone_offset(text: nw.Expr) -> nw.Expr:
    """Seconds that the local time is ahead of UTC."""
    zone = text.str.slice(11).str.replace_all(r"^[0-9:.,]* ?", "")
    zone = zone.str.replace_all(":", "", literal=True)
    is_offset = zone.str.contains(r"^[+-]")
    ahead = _two_digits(zone, is_offset, 1) * 3600 + _two_digits(zone, is_offset, 3) * 60
    return nw.when(zone.str.starts_with("-")).then(ahead * -1).otherwise(ahead)


def _two_digits(zone: nw.Expr, is_offset: nw.Expr, offset: int) -> nw.Expr:
    digits = nw.when(is_offset).then(zone.str.slice(offset, 2)).otherwise(nw.lit(""))
    # The zero makes a 0 of nothing.
    return nw.concat_str(nw.lit("0"), digits).cast(nw.Int64)
