"""Admission: how much work may wait, and what is told to the calls beyond that.

What a call costs is known only when it is done, so the queue is bounded by time: by how many calls
wait and by how fast the calls before them left it, whatever the mix of short and long histories and
of batches. A call that would wait too long is refused at once, which takes a small part of what its
answer would, so a server that is offered more than it can do goes on doing what it can.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import grpc

from kinrec.server import inner_grpc
from kinrec.server.errors import OverloadedError, failure_of, set_failure, status_of
from kinrec.server.inner_grpc import DONE, Status
from kinrec.server.observability.calls import REQUEST_ID, refused_as
from kinrec.server.pools import in_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kinrec.server.call_pool import CallPool

    _Request = TypeVar("_Request")
    _Response = TypeVar("_Response")

_MOST_WAITING = 10_000  # whatever the speed, for each holds memory
# Unless it is said how long calls may wait: as long as so many take, within these bounds, so that
# neither a slow model nor a busy machine refuses callers of a usual number.
_USUAL_BURST = 100
_TOLD = "the server has more calls than it can answer in time"
_LEAST_TOLD = 0.01  # seconds after which to come again
_USUAL_BATCHES = 32  # and so many batches, however long they take
_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 0.25


class _Refusing(ThreadPoolExecutor):
    """Refuses what is submitted, in the thread that submits it: no thread to wait for, none to wake.

    Args:
        pool: Where it would have waited.
    """

    def __init__(self, pool: CallPool) -> None:
        super().__init__(1)
        self._pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        fn(self._refuse, *args, **kwargs)  # which runs it in the context of the call
        return DONE

    def _refuse(self, *args: Any) -> None:  # noqa: ANN401
        code, details, metadata = _told(self._wait())
        status = Status(code, details, (*metadata, (REQUEST_ID, refused_as.get())))
        if not inner_grpc.refuse(args, status):
            work, *rest = args
            work(*rest)

    def behave(
        self,
        _requests: Iterator[bytes],
        context: grpc.ServicerContext,
        send: Callable[[None], None],
    ) -> None:
        """Do the same in gRPC's own way, where there is no other."""
        failure = failure_of(OverloadedError(_TOLD, self._wait()))
        set_failure(context, failure, (REQUEST_ID, refused_as.get()))
        send(None)

    def _wait(self) -> float:
        """Give what a call would have to wait, in seconds, rounded, so that many are told the same."""
        return max(_LEAST_TOLD, round(self._pool.expected_wait, 2))


class Limit(NamedTuple):
    """Where calls wait, and how long they may.

    Attributes:
        pool: Works on them.
        longest_wait: Gives the longest wait, in seconds, from how long one of them takes.
    """

    pool: CallPool
    longest_wait: Callable[[float], float]

    @classmethod
    def of_calls(cls, pool: CallPool, max_wait: float | None) -> Limit:
        """Give that of calls: so many seconds, or if None what goes by how long they take."""
        return cls(pool, _longest_wait if max_wait is None else lambda _step: max_wait)

    @classmethod
    def of_batches(cls, pool: CallPool, max_wait: float | None) -> Limit:
        """Give that of batches, of which one may take longer than calls may wait: some wait all the same."""
        least = _LONGEST_WAIT if max_wait is None else max_wait
        return cls(pool, lambda step: max(least, _USUAL_BATCHES * step))

    @property
    def is_full(self) -> bool:
        """Whether a call that comes now would wait too long."""
        pool = self.pool
        return pool.expected_wait > self.longest_wait(pool.step) or pool.waiting > _MOST_WAITING


class AdmissionInterceptor(grpc.ServerInterceptor):
    """Refuses calls that would wait too long; those that wait nowhere, as of health, are let by.

    Args:
        limits: Where they would wait, by the full names of the methods.
        note: Is told of each call that is refused: its details, the code, the reason.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit],
        note: Callable[[grpc.HandlerCallDetails, str, str], None],
    ) -> None:
        self._limits = limits
        self._note = note
        self._refusals = {limit.pool: _refusing(limit.pool) for limit in limits.values()}

    def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        """Return the handler of the call, or one that refuses it."""
        limit = self._limits.get(handler_call_details.method)
        if limit is not None and limit.is_full:
            self._note(handler_call_details, "RESOURCE_EXHAUSTED", "UNAVAILABLE")
            return self._refusals[limit.pool]
        return continuation(handler_call_details)


def _refusing(pool: CallPool) -> grpc.RpcMethodHandler[Any, Any]:
    """Give a handler that refuses calls that would wait in a pool.

    To gRPC it takes a stream of requests, of which it reads none before the behaviour asks, and gives
    one of responses that the behaviour ends: to fail by an exception takes longer.
    """
    refusing = _Refusing(pool)
    behaviour = in_pool(refusing, refusing.behave, non_blocking=True)
    return grpc.stream_stream_rpc_method_handler(behaviour)


def _longest_wait(step: float) -> float:
    return min(max(_SHORTEST_WAIT, _USUAL_BURST * step), _LONGEST_WAIT)


@lru_cache(maxsize=64)
def _told(wait: float) -> Status:
    """Give what a call is told that would have to wait so many seconds."""
    return status_of(OverloadedError(_TOLD, wait))
