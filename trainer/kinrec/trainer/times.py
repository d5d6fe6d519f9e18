"""Times as people write and read them."""

from __future__ import annotations

import datetime as dt
import math

from kinrec.trainer.errors import ConfigError


def parse_time(key: str, text: str, *others: str) -> float:
    """Read a date, a date and time (UTC unless it says) or seconds since 1970.

    Args:
        key: The name of the setting.
        text: Its value.
        others: What else is allowed, for the error.

    Raises:
        ConfigError: It is none of them.
    """
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(seconds):
            return seconds
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        listed = "".join(f", or {other}" for other in others)
        rule = f"must be a date such as 2024-05-31, or seconds since 1970{listed}"
        raise ConfigError(key, text, rule) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def format_time(seconds: float) -> str:
    """Write a time as a person reads it, in UTC; as plain seconds where no calendar reaches."""
    try:
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s"
    return moment.isoformat(" ", "minutes").partition("+")[0]
