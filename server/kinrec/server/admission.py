"""Admission: how much work may wait, and what is told to the calls beyond that.

What a call costs is known only when it is done, so the queue is bounded by time: by how many calls
wait and by how fast the calls before them left it, whatever the mix of short and long histories and
of batches. A call that would wait too long is refused at once, which takes a small part of what its
answer would, so a server that is offered more than it can do goes on doing what it can.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from kinrec.server.errors import OverloadedError, abort, failure_of
from kinrec.server.observability.calls import REQUEST_ID, refused_as
from kinrec.server.pools import in_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Request = TypeVar("_Request")
    _Response = TypeVar("_Response")

_Result = TypeVar("_Result")

_MOST_WAITING = 10_000  # whatever the speed, for each holds memory
_SMOOTHING = 1 / 16  # what the last call counts in the mean time between two
_LONGEST_STEP = 1.0  # seconds: more tells of a pause, not of the speed


class CallPool(ThreadPoolExecutor):
    """Threads that work on calls, and how long a call that comes now would wait for one.

    Args:
        threads: How many calls are worked on at once.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, "call")
        self._lock = threading.Lock()
        self._waiting = 0
        self._last_start = 0.0
        self._mine = threading.local()
        self._step = (
            0.0  # the mean time, in seconds, from the start of one call to that of the next
        )

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._waiting

    @property
    def expected_wait(self) -> float:
        """How long a call that comes now would wait, in seconds."""
        return self._waiting * self._step

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """Have a call worked on when its turn comes."""
        with self._lock:
            self._waiting += 1
        return super().submit(self._start, time.monotonic(), fn, *args, **kwargs)

    def waited(self) -> tuple[float, float]:
        """Say when what this thread does was submitted and when it began, by the monotonic clock."""
        times: tuple[float, float] = self._mine.times
        return times

    def _start(
        self,
        submitted: float,
        fn: Callable[..., _Result],
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> _Result:
        now = time.monotonic()
        self._mine.times = submitted, now
        with self._lock:
            self._waiting -= 1
            step = min(now - self._last_start, _LONGEST_STEP)
            self._last_start = now
            if self._waiting:  # otherwise it is the callers who are slow
                self._step += (step - self._step) * _SMOOTHING
        return fn(*args, **kwargs)


class _AtOnce(ThreadPoolExecutor):
    """Runs what is submitted in the thread that submits it: no thread to wait for, none to wake."""

    def __init__(self) -> None:
        super().__init__(1)

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        done: Future[_Result] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class AdmissionInterceptor(grpc.ServerInterceptor):
    """Refuses the calls of one service that would wait too long; others, as of health, are let by.

    Args:
        pool: Where they would wait.
        service: The full name of the service.
        max_wait: The longest wait, in seconds.
        note: Is told of each call that is refused: its details, the code, the reason.
    """

    def __init__(
        self,
        pool: CallPool,
        service: str,
        max_wait: float,
        note: Callable[[grpc.HandlerCallDetails, str, str], None],
    ) -> None:
        self._pool = pool
        self._note = note
        self._prefix = f"/{service}/"
        self._max_wait = max_wait
        # To gRPC a stream of requests, of which it reads none before the behaviour asks.
        self._refusal: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(
            in_pool(_AtOnce(), self._refuse)
        )

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Return the handler of the call, or one that refuses it."""
        pool = self._pool
        if (
            pool.expected_wait > self._max_wait or pool.waiting > _MOST_WAITING
        ) and handler_call_details.method.startswith(self._prefix):
            self._note(handler_call_details, "RESOURCE_EXHAUSTED", "UNAVAILABLE")
            return self._refusal
        return continuation(handler_call_details)

    def _refuse(self, _requests: Iterator[bytes], context: grpc.ServicerContext) -> None:
        wait = round(self._pool.expected_wait, 2)  # so that many are told the same
        error = OverloadedError("the server has more calls than it can answer in time", wait)
        abort(context, failure_of(error), (REQUEST_ID, refused_as.get()))
