"""The one configuration object of the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinrec.engine import (
    MAX_CONDITION_VALUES,
    MAX_CONDITIONS,
    MAX_EVENTS,
    MAX_ID_BYTES,
    MAX_LISTED_ITEMS,
)
from kinrec.server.observability.observing import Observing
from kinrec.server.states import MAX_STATE_BYTES, StateKeys

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.server.experiments import Experiment
    from kinrec.server.security.tls import TlsFiles

# Two ids per event, one per excluded and per allowed item and per value of a condition, and room for
# times, values and framing: a request about one person that keeps every other limit is never refused
# for its size.
_FRAMING_BYTES = 64
MAX_REQUEST_BYTES = (
    MAX_EVENTS * (2 * MAX_ID_BYTES + _FRAMING_BYTES)
    + (2 * MAX_LISTED_ITEMS + MAX_CONDITION_VALUES + MAX_CONDITIONS)
    * (MAX_ID_BYTES + _FRAMING_BYTES)
    + MAX_ID_BYTES
    + MAX_STATE_BYTES
    + _FRAMING_BYTES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """How a server listens, how much it takes at once, and how it ends.

    Attributes:
        host: The address to listen on: a name, an IPv4 or an IPv6 address.
        port: The port, 0 to 65,535; 0 takes a free one.
        concurrency: Calls that are worked on together, 1 to 1,024. Others wait in line.
        max_wait: The longest that a call may have to wait in line, in seconds, .001 to 3,600;
            one that is expected to wait longer is refused. None for what ``kinrec.server.admission`` finds
            from how long calls take.
        drain_wait: Seconds between saying NOT_SERVING and refusing calls, so that load balancers
            have seen it. Not negative.
        grace: Seconds that calls in flight have to end after that. Not negative.
        max_watches: Open health watches, at least 1; beyond them a watch is refused.
        max_connection_age: Seconds after which a client is asked to connect anew, so that new
            replicas get their share.
        previous_hours: For so many hours after a version was made the one before it in the store goes
            on answering the states it gave, 0 to 8,760.
        max_streams: Streams of a person's events that are open at once, 1 to 1,024; beyond them one is
            refused. Each holds a thread.
        min_voters: How many similar users must have voted for an item for a reason to tell of them;
            0 to tell of none.
        require_parity: Whether a bundle is refused that ``kinrec verify`` has not passed.
        experiment: Shares people among variants; None for no experiment.
        state_keys: Sign the carried states; by default a key that no other server has.
        max_connection_age_grace: Seconds that calls on such a connection have to end.
        workers: Processes that answer, 1 to 256. What else is said here holds for each of them.
        reuse_port: Whether other processes of the same user may listen on the port as well.
        reload_seconds: How often the store is looked at for a version to serve instead, 0 to 86,400; 0
            for never.
        admin_port: The port on 127.0.0.1 for admin calls, 0 to 65,535; None for no admin calls.
        max_connections: Connections that are open at once, 1 to 1,000,000; beyond them one is closed as
            soon as it is opened.
        max_concurrent_streams: Calls that are open at once on one connection, 1 to 1,000,000; clients
            hold back those beyond.
        tls: Where the certificate is; None to speak plain text.
        insecure: Whether plain text may be spoken to other machines.
        tokens: The file of the tokens of which every call must carry one; None to ask for none.
        reflection: Whether the services describe themselves to callers without the protos.
        observing: What is measured and what is logged.

    Raises:
        ValueError: A value is out of range. The text is one line that names the field.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    concurrency: int = (
        32  # with more the encoder runs over more at once, but each caller waits longer
    )
    max_wait: float | None = None
    drain_wait: float = 1.0
    grace: float = 10.0
    max_watches: int = 1000
    max_connection_age: float = 300.0
    max_connection_age_grace: float = 30.0
    previous_hours: float = 24.0
    max_streams: int = 64
    min_voters: int = 5
    require_parity: bool = False
    experiment: Experiment | None = None
    workers: int = 1
    reuse_port: bool = False
    reload_seconds: float = 5.0
    admin_port: int | None = None
    max_connections: int = 1000
    max_concurrent_streams: int = 1000
    tls: TlsFiles | None = None
    insecure: bool = False
    tokens: Path | None = None
    reflection: bool = False
    observing: Observing = field(default_factory=Observing)
    state_keys: StateKeys = field(default_factory=StateKeys.random, repr=False)

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host: must not be empty")
        _check_range("port", self.port, 0, 65_535)
        if self.admin_port is not None:
            _check_range("admin_port", self.admin_port, 0, 65_535)
        if self.port and self.port == self.admin_port:
            raise ValueError(f"admin_port: must be another than port, is {self.port}")
        _check_range("concurrency", self.concurrency, 1, 1024)
        if self.max_wait is not None:
            _check_range("max_wait", self.max_wait, 0.001, 3600)
        _check_range("drain_wait", self.drain_wait, 0, 3600)
        _check_range("grace", self.grace, 0, 3600)
        _check_range("max_watches", self.max_watches, 1, 1_000_000)
        _check_range("max_streams", self.max_streams, 1, 1024)
        _check_range("min_voters", self.min_voters, 0, 1_000_000)
        _check_range("previous_hours", self.previous_hours, 0, 8_760)
        _check_range("workers", self.workers, 1, 256)
        _check_range("reload_seconds", self.reload_seconds, 0, 86_400)
        _check_range("max_connection_age", self.max_connection_age, 1, 86_400)
        _check_range("max_connection_age_grace", self.max_connection_age_grace, 0, 86_400)
        _check_range("max_connections", self.max_connections, 1, 1_000_000)
        _check_range("max_concurrent_streams", self.max_concurrent_streams, 1, 1_000_000)

    def address(self, port: int | None = None) -> str:
        """The address as gRPC writes it, ``host:port``, with another port if one is given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port if port is None else port}"


def _check_range(field: str, value: float, least: float, most: float) -> None:
    """Refuse what is out of range; NaN is."""
    if not least <= value <= most:
        raise ValueError(f"{field}: must be from {least:,} to {most:,}, not {value}")
