"""What an operator wants to see of a server."""

from __future__ import annotations

from dataclasses import dataclass

LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observing:
    """What is measured and what is logged.

    Attributes:
        metrics_address: Where metrics are served over HTTP, ``host:port``, port 0 for a free one;
            empty for nowhere.
        log_format: One of ``LOG_FORMATS``.
        log_level: The least level that is logged, one of ``LOG_LEVELS``.
        log_calls: Whether every call is logged, not those alone that fail or are slow.
        slow_call: Calls that take longer are logged with the times of their stages, in seconds; None
            for no such log. Of a stream each message counts.
        log_personal_data: Whether logs may hold user ids, item ids and the text of unexpected errors.

    Raises:
        ValueError: A value cannot be used. The text is one line that names the field.
    """

    metrics_address: str = ""
    log_format: str = "text"
    log_level: str = "info"
    log_calls: bool = False
    slow_call: float | None = None
    log_personal_data: bool = False

    def __post_init__(self) -> None:
        if self.metrics_address:
            split_address(self.metrics_address)
        for field, value, values in (
            ("log_format", self.log_format, LOG_FORMATS),
            ("log_level", self.log_level, LOG_LEVELS),
        ):
            if value not in values:
                raise ValueError(f"{field}: must be one of {', '.join(values)}, not {value!r}")
        if self.slow_call is not None and not 0.0 <= self.slow_call <= 3600.0:
            raise ValueError(f"slow_call: must be from 0 to 3,600 seconds, not {self.slow_call}")


def split_address(address: str) -> tuple[str, int]:
    """Give the host and the port of ``host:port`` or ``[IPv6]:port``.

    Raises:
        ValueError: It is no such address.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise ValueError(f"metrics_address: must be HOST:PORT, is {address!r}")
    return host, int(port)
