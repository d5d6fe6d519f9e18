"""The standard health service, which no watcher can bring to a halt.

The servicer of grpcio-health-checking sends to a watcher while it holds a lock that the server's
only event thread takes when another watcher leaves; the event thread then waits for a send that it
would have to complete itself, and the whole server hangs. Here no lock that the event thread takes
is held during a send. Watches hold no thread while they wait, nor do calls whose message has not
come, and the threads that serve health calls serve nothing else, so none starves the other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2

from kinrec.server.errors import GIVEN_UP, NO_THREAD, OverloadedError, status_of
from kinrec.server.inner_grpc.held import Held, ReceivingPool
from kinrec.server.pools import in_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Send = Callable[[health_pb2.HealthCheckResponse | None], None]

_Status = health_pb2.HealthCheckResponse
_UNKNOWN: int = _Status.SERVICE_UNKNOWN
_CHECK_THREADS = 2
_MOST_HELD = 32  # calls whose message has not come: each can take the memory of the largest
_WATCH_THREADS = 8  # a client that does not read can hold one of these while a status is sent


class HealthServicer:
    """Answers the calls of `grpc.health.v1.Health`; all services start as NOT_SERVING."""

    def __init__(self, services: Iterable[str], *, max_watches: int) -> None:
        self._statuses: dict[str, int] = dict.fromkeys(services, _Status.NOT_SERVING)
        self._max_watches = max_watches
        self._watches: set[_Watch] = set()
        self._lock = threading.Lock()  # over the two above; never held during a send
        checks, watches = (Held(_MOST_HELD, lambda *_call: status_of(GIVEN_UP)) for _ in range(2))
        told = status_of(NO_THREAD)
        self._check_pool = ReceivingPool(_CHECK_THREADS, "health-check", told, checks)
        self._watch_pool = ReceivingPool(_WATCH_THREADS, "health-watch", told, watches)

    def add_to(self, server: grpc.Server) -> None:
        """Register the service with a server."""
        decode, encode = health_pb2.HealthCheckRequest.FromString, _Status.SerializeToString
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                in_pool(self._check_pool, self._check), decode, encode
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                in_pool(self._watch_pool, self._watch, non_blocking=True), decode, encode
            ),
        }
        name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    def set_serving(self, *, serving: bool) -> None:
        """Set the status of every service and tell the watchers."""
        status = _Status.SERVING if serving else _Status.NOT_SERVING
        with self._lock:
            self._statuses = dict.fromkeys(self._statuses, status)
            watches = list(self._watches)
        for watch in watches:
            self._watch_pool.submit(watch.deliver)

    def end_watches(self) -> None:
        """End every watch, so that a server that stops need not wait for them."""
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            self._watch_pool.submit(watch.end)

    def _check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Say the status of a service."""
        status = self.status_of(request.service)
        if status == _UNKNOWN:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("service: not one of this server")
        return _Status(status=status)

    def _watch(
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send: Send,
    ) -> None:
        """Send the status of a service now and whenever it changes.

        gRPC calls this without holding a thread until the end of the stream.

        Raises:
            OverloadedError: Too many watches are open.
        """
        watch = _Watch(self, request.service, context, send)
        with self._lock:
            if len(self._watches) >= self._max_watches:
                raise OverloadedError(f"{self._max_watches:,} health watches are open already")
            self._watches.add(watch)
        if context.add_callback(lambda: self._forget(watch)):
            watch.deliver()
        else:
            self._forget(watch)

    def status_of(self, service: str) -> int:
        """The status of a service as it is now."""
        with self._lock:
            return self._statuses.get(service, _UNKNOWN)

    def _forget(self, watch: _Watch) -> None:
        """Called on the event thread of the server: must not wait for a send."""
        with self._lock:
            self._watches.discard(watch)


class _Watch:
    """One open stream. Sends of one stream are serial, and the last one sent is the latest status."""

    def __init__(
        self, health: HealthServicer, service: str, context: grpc.ServicerContext, send: Send
    ) -> None:
        self._health = health
        self._service = service
        self._context = context
        self._send = send
        self._sent: int | None = None
        self._ended = False
        self._sending = threading.Lock()

    def deliver(self) -> None:
        """Send the status unless it was the last one sent."""
        with self._sending:
            status = self._health.status_of(self._service)
            if status != self._sent and not self._ended:
                self._sent = status
                self._send(_Status(status=status))

    def end(self) -> None:
        """End the stream: the server goes away."""
        with self._sending:
            if not self._ended:
                self._ended = True
                self._context.set_code(grpc.StatusCode.UNAVAILABLE)
                self._context.set_details("the service is shutting down")
                self._send(None)
