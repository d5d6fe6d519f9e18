"""A gRPC server around an engine: the services, the limits, the port, the drain."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from kinrec.server.admission import Admission, Limit
from kinrec.server.call_pool import CallPool, ThreadedCallPool
from kinrec.server.config import MAX_REQUEST_BYTES
from kinrec.server.errors import GIVEN_UP, NO_THREAD, ErrorInterceptor, status_of
from kinrec.server.health import HealthServicer
from kinrec.server.inner_grpc import known
from kinrec.server.inner_grpc.held import EndingPool, Held
from kinrec.server.line import Line
from kinrec.server.observability.calls import REQUEST_ID
from kinrec.server.observability.watching import watch_calls
from kinrec.server.pools import in_pool
from kinrec.server.port import PortError, check_port
from kinrec.server.security.auth import AuthInterceptor
from kinrec.server.security.tls import check_exposure, server_credentials
from kinrec.server.servicer import METHODS, SERVICE_NAME, RecommenderServicer
from kinrec.v1 import recommender_pb2_grpc

if TYPE_CHECKING:
    import threading

    from kinrec.server.config import ServerConfig
    from kinrec.server.engines import Engines
    from kinrec.server.inner_grpc.gate import Metadata, Status
    from kinrec.server.observability.calls import Calls

_log = logging.getLogger(__name__)

MOST_HELD = 128
"""How many calls a pool holds whose message has not come, which can take the memory of the largest."""

_BATCHES = ("BatchEncode", "BatchRecommend")
_UNKNOWN_GRPC = (
    "not one that is known here; each call takes a thread before its message has come, "
    "calls are not worked on together, and no number of them is too many"
)
_HEALTH_NAME = "grpc.health.v1.Health"
_LONGEST_READ = 2.0  # seconds
_REFLECTION_THREADS = 4  # an open reflection stream holds one


class RecommenderServer:
    """A server that answers `kinrec.v1.RecommenderService` with an engine.

    It says SERVING from `start` on, until `announce_drain`. A process has the port to itself, and a
    port that another process listens on is refused, unless the configuration shares it.

    Args:
        engines: Answer the calls.
        config: How to listen and what to take.

    Raises:
        PortError: The address cannot be listened on, or would be in plain text and must not.
        FlagFileError: The files of the certificate or of the tokens cannot be used.
    """

    def __init__(self, engines: Engines, config: ServerConfig) -> None:
        self._config = config
        check_exposure(config)
        if not known.IS_KNOWN:
            _log.warning("grpcio %s: %s", grpc.__version__, _UNKNOWN_GRPC)
        # Each batch is many calls in one, and the calls would wait for it.
        lines = line, line_of_batches = Line(config.concurrency), Line(1)
        self._calls = calls = watch_calls(config.observing, SERVICE_NAME, METHODS, lines)
        # Of no method of this object, which would never be forgotten then.
        give_up, note_left = partial(_give_up, calls), partial(_note_left, calls)
        held, held_batches = (Held(MOST_HELD, give_up, note_left) for _ in lines)
        self._pool = pool = CallPool(line, held)
        batches = ThreadedCallPool(line_of_batches, held_batches)
        auth = None if config.tokens is None else AuthInterceptor(config.tokens, calls.refused)
        pool.gate = Admission(
            _limits(config, *lines), calls.refused, None if auth is None else auth.caller_of
        ).refuse
        self._server = grpc.server(
            pool,
            interceptors=[
                *([] if auth is None else [auth]),
                ErrorInterceptor(SERVICE_NAME, calls),
            ],
            options=_options(config),
        )
        self._health = HealthServicer(("", SERVICE_NAME), max_watches=config.max_watches)
        self._health.add_to(self._server)
        self._servicer = RecommenderServicer(
            engines,
            config.state_keys,
            min_voters=config.min_voters,
            max_streams=config.max_streams,
        )
        # An open stream holds a thread; one thread more tells those who come too many.
        streams = EndingPool(config.max_streams + 1, "stream", status_of(NO_THREAD))
        own = {"RecommendStream": streams, **dict.fromkeys(_BATCHES, batches)}
        for method, its in own.items():  # the mark is on a function
            setattr(self._servicer, method, in_pool(its, getattr(self._servicer, method)))
        recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(self._servicer, self._server)
        if config.reflection:
            _add_reflection(self._server)
        if not config.reuse_port:
            check_port(config.host, config.port, config.address())
        try:
            if config.tls is None:
                self._port = self._server.add_insecure_port(config.address())
            else:
                credentials = server_credentials(config.tls)
                self._port = self._server.add_secure_port(config.address(), credentials)
        except RuntimeError as error:  # taken since the check, or by a rule of gRPC's own
            raise PortError(
                f"--port: cannot listen on {config.address()}: refused by gRPC"
            ) from error

    @property
    def address(self) -> str:
        """The address listened on, ``host:port``."""
        return self._config.address(self._port)

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    def start(self) -> None:
        """Take calls and say SERVING."""
        self._server.start()
        self._note_served(self._servicer.engines)
        self._health.set_serving(serving=True)

    def prepare(self, engines: Engines | None) -> None:
        """Answer the states that others give of what is to be served next; None for nothing."""
        self._servicer.engines.following = engines

    def switch(self, engines: Engines) -> None:
        """Serve other engines from now on; calls in flight end on those they began on."""
        self._servicer.engines = engines
        self._note_served(engines)

    def _note_served(self, engines: Engines) -> None:
        self._calls.serves(engines.current.name, engines.current.version)

    def announce_drain(self) -> None:
        """Say NOT_SERVING, and go on answering."""
        self._health.set_serving(serving=False)

    def stop(self, grace: float) -> threading.Event:
        """Refuse new calls and give those in flight time to end.

        Args:
            grace: Seconds after which calls that have not ended are cancelled.

        Returns:
            An event that is set when all calls have ended.
        """
        # gRPC ends calls that it has not read yet, and they have come as well as the others.
        self._pool.await_read(min(grace, _LONGEST_READ))
        stopped = self._server.stop(grace)
        self._health.end_watches()
        return stopped


def _give_up(calls: Calls, method: str, metadata: Metadata) -> Status:
    request_id = calls.refused(method, metadata, "RESOURCE_EXHAUSTED", "UNAVAILABLE")
    return status_of(GIVEN_UP, (REQUEST_ID, request_id))


def _note_left(calls: Calls, method: str, metadata: Metadata, *, is_late: bool) -> None:
    calls.refused(method, metadata, "DEADLINE_EXCEEDED" if is_late else "CANCELLED", "")


def _limits(config: ServerConfig, calls: Line, batches: Line) -> dict[str, Limit]:
    """Where the calls of each method wait, or, for streams, those beside which they are answered."""
    limits = dict.fromkeys(METHODS, Limit.of_calls(calls, config.max_wait))
    limits |= dict.fromkeys(_BATCHES, Limit.of_batches(batches, calls, config.max_wait))
    return {f"/{SERVICE_NAME}/{method}": limit for method, limit in limits.items()}


def _add_reflection(server: grpc.Server) -> None:
    names = (SERVICE_NAME, _HEALTH_NAME, reflection.SERVICE_NAME)
    servicer = reflection.ReflectionServicer(names)
    pool = EndingPool(_REFLECTION_THREADS, "reflection", status_of(NO_THREAD))
    servicer.ServerReflectionInfo = in_pool(pool, servicer.ServerReflectionInfo)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    """The arguments of the channel: limits, and what keeps connections alive and moving."""
    return [
        ("grpc.so_reuseport", int(config.reuse_port)),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        # A connection that begins and says nothing more takes one of the places for no longer.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_age_ms", round(config.max_connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", round(config.max_connection_age_grace * 1000)),
        # Clients may ping every 20 s, calls or none; the server finds dead clients within 80 s.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
