"""Times are read and written as people write and read them."""

import pytest

from kinrec.trainer.errors import ConfigError
from kinrec.trainer.times import format_time, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("86400", 86_400.0),
        ("1.5", 1.5),
        ("1970-01-02", 86_400.0),
        ("1970-01-02T00:00:10", 86_410.0),
        ("1970-01-02T01:00:00+01:00", 86_400.0),
    ],
)
def test_dates_and_seconds_are_read(text, seconds):
    """A date is its midnight in UTC, unless it says another zone."""
    assert parse_time("test_from", text) == seconds


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "2024-13-01", ""])
def test_what_is_no_time_is_refused(text):
    """The error names the setting, the value and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        parse_time("test_from", text)
    assert str(caught.value).startswith(f"test_from = {text!r}: must be a date such as")


def test_times_are_written_in_utc():
    """To the minute; a time that no calendar has as plain seconds."""
    assert format_time(86_461.0) == "1970-01-02 00:01"
    assert format_time(1e18) == "1000000000000000000 s"
