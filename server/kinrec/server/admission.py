"""Admission: how much work may wait, and what is told to the calls beyond that.

What a call costs is known only when it is done, so the queue is bounded by time: by how many calls
wait and by how fast the calls before them left it, whatever the mix of short and long histories and
of batches. A call that would wait too long is refused at once, which takes a small part of what its
answer would, so a server that is offered more than it can do goes on doing what it can.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from kinrec.server import scheduling
from kinrec.server.errors import OverloadedError, failure_of, set_failure
from kinrec.server.observability.calls import REQUEST_ID, refused_as
from kinrec.server.pools import in_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kinrec.server.errors import Failure

    _Request = TypeVar("_Request")
    _Response = TypeVar("_Response")

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)

_MOST_WAITING = 10_000  # whatever the speed, for each holds memory
# Unless it is said how long calls may wait: as long as so many take, within these bounds, so that
# neither a slow model nor a busy machine refuses callers of a usual number.
_USUAL_BURST = 100
_SHORTEST_WAIT, _LONGEST_WAIT = 0.06, 0.25
_SMOOTHING = 1 / 64  # what the last call counts in the mean time between two; they begin in groups
_OVER = 1 / 4  # of the longest wait: where fewer wait, the flood is over
# The most that a step may count, for a pause of the whole process is none of its speed: so many times
# the mean, in which a group of calls as large as is usual begins at once, and this many seconds at first.
_LEAP = 32
_FIRST_STEP = 0.05


class CallPool(ThreadPoolExecutor):
    """Threads that work on calls, and how long a call that comes now would wait for one.

    It has threads and a queue of its own: what the library's does beside for each call, for those who
    want to know what became of it, takes a tenth of an empty call, and gRPC does not ask.

    Args:
        threads: How many calls are worked on at once.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(1)  # which has no thread until something is submitted to it
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._most = threads
        self._started = 0  # of the threads
        self._working = 0
        self._threads_end = weakref.finalize(self, _end_threads, self._queue, threads)
        self._counts = threading.Lock()
        self._waiting = 0
        self._last_start = 0.0
        self._is_behind = False  # whether a call has waited ever since the last one was begun
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
        """How long a call that comes now would wait, in seconds.

        For the calls before it and for those in work, which are answered together when there are many.
        A few that just pass through the line wait for nobody.
        """
        return (self._waiting + min(self._waiting, self._working)) * self._step

    @property
    def step(self) -> float:
        """The mean time from the start of one call to that of the next while calls wait, in seconds."""
        return self._step

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """Have a call worked on when its turn comes.

        Returns:
            A future that is done already and has no result. gRPC counts the calls by it whose number it
            is told to bound, and it is told of no bound.
        """
        with self._counts:
            self._waiting += 1
            # No more threads than calls at once: who worked last finds its things in the core's caches.
            if self._started < min(self._most, self._waiting + self._working):
                self._started += 1
                name = f"call_{self._started}"
                threading.Thread(target=_work, args=(self._queue,), name=name, daemon=True).start()
        self._queue.put(partial(self._start, time.monotonic(), fn, *args, **kwargs))
        return _DONE

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
        """Let the threads end when all that was submitted is done."""
        self._threads_end()

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
    ) -> None:
        now = time.monotonic()
        self._mine.times = submitted, now
        with self._counts:
            self._waiting -= 1
            self._working += 1
            if self._is_behind:  # otherwise it was the callers who were slow
                step = min(now - self._last_start, max(_LEAP * self._step, _FIRST_STEP))
                self._step += (step - self._step) * _SMOOTHING
            self._last_start = now
            self._is_behind = self._waiting > 0
        try:
            fn(*args, **kwargs)
        finally:
            with self._counts:
                self._working -= 1


def _work(queue: SimpleQueue[Callable[[], object] | None]) -> None:
    """Do what comes, until nothing does. Holds the queue alone, so that a pool can go."""
    while (call := queue.get()) is not None:
        try:
            call()
        except BaseException:  # noqa: BLE001 - gRPC catches what its methods raise
            _log.exception("a call failed outside its method")
        del call  # and with it the request, which can be large


def _end_threads(queue: SimpleQueue[Callable[[], object] | None], threads: int) -> None:
    for _ in range(threads):
        queue.put(None)


def _done() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future


_DONE = _done()


class _AtOnce(ThreadPoolExecutor):
    """Runs what is submitted in the thread that submits it: no thread to wait for, none to wake."""

    def __init__(self) -> None:
        super().__init__(1)

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        fn(*args, **kwargs)
        return _DONE


class AdmissionInterceptor(grpc.ServerInterceptor):
    """Refuses the calls of one service that would wait too long; others, as of health, are let by.

    Args:
        pool: Where they would wait.
        service: The full name of the service.
        max_wait: The longest wait, in seconds; None for one that goes by how long calls take.
        note: Is told of each call that is refused: its details, the code, the reason.
    """

    def __init__(
        self,
        pool: CallPool,
        service: str,
        max_wait: float | None,
        note: Callable[[grpc.HandlerCallDetails, str, str], None],
    ) -> None:
        self._pool = pool
        self._note = note
        self._prefix = f"/{service}/"
        self._max_wait = max_wait
        self._is_flooded = False
        # To gRPC a stream of requests, of which it reads none before the behaviour asks, and one of
        # responses that the behaviour ends: to fail by an exception takes longer.
        self._refusal: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            in_pool(_AtOnce(), self._refuse, non_blocking=True)
        )

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Return the handler of the call, or one that refuses it."""
        wait, waiting = self._pool.expected_wait, self._pool.waiting
        longest = self._max_wait or _longest_wait(self._pool.step)
        if (wait > longest or waiting > _MOST_WAITING) and handler_call_details.method.startswith(
            self._prefix
        ):
            if not self._is_flooded:
                self._set_flooded(is_flooded=True)
            self._note(handler_call_details, "RESOURCE_EXHAUSTED", "UNAVAILABLE")
            return self._refusal
        if self._is_flooded and wait < longest * _OVER:
            self._set_flooded(is_flooded=False)
        return continuation(handler_call_details)

    def _set_flooded(self, *, is_flooded: bool) -> None:
        """While calls are refused, those that come do not disturb those that are answered.

        Each that comes wakes threads of gRPC's. If they take the core at once, the caches are theirs
        when the work goes on, which costs more than the refusal itself.
        """
        self._is_flooded = is_flooded
        if scheduling.is_possible():
            scheduling.set_patience(is_patient=is_flooded)

    def _refuse(
        self,
        _requests: Iterator[bytes],
        context: grpc.ServicerContext,
        send: Callable[[None], None],
    ) -> None:
        # Rounded, so that many are told the same, which is made once.
        refusal = _refusal(round(self._pool.expected_wait, 2))
        set_failure(context, refusal, (REQUEST_ID, refused_as.get()))
        send(None)


def _longest_wait(step: float) -> float:
    return min(max(_SHORTEST_WAIT, _USUAL_BURST * step), _LONGEST_WAIT)


@lru_cache(maxsize=64)
def _refusal(wait: float) -> Failure:
    """Give what a call is told that would have to wait so many seconds."""
    return failure_of(OverloadedError("the server has more calls than it can answer in time", wait))
