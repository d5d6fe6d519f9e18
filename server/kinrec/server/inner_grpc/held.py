"""Holds calls until their messages have come.

gRPC takes a thread as soon as it knows of a call, and the thread then waits for the message: as many
callers as there are threads bring a server to a halt by beginning calls and sending no more. And a thread
that waits has to be woken, for every call.
"""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.server.inner_grpc import known
from kinrec.server.inner_grpc.gate import details_of
from kinrec.server.inner_grpc.known import server

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from kinrec.server.inner_grpc.gate import Status

_Result = TypeVar("_Result")

# What waits for the message of a call that has one.
_WAITS = server._unary_request(None, None, None).__code__ if known.IS_KNOWN else None
_LEAST_SECONDS = 0.5  # that a call may be held though there are too many, unless there are
_FAR_TOO_MANY = 10  # times as many
_NO_MESSAGE = b"the call ended without the one message that it takes"


def _done() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future


DONE = _done()
"""For gRPC, which counts calls by their futures where it is told to bound their number, and is not told."""


class Held:
    """The calls whose message has not come. For the thread that reads, which one at a time does.

    Args:
        most: How many are held: what is held takes memory. If another comes the oldest are ended, but
            not before their time, which is long beside the milliseconds in which the message of a call
            comes, unless there are many times as many.
        give_up: Is told of the one that is ended, and says how.
    """

    def __init__(self, most: int, give_up: Callable[[grpc.HandlerCallDetails], Status]) -> None:
        self._most = most
        self._give_up = give_up
        # When each came and what was submitted, the oldest first.
        self._calls: dict[object, tuple[float, tuple[Any, ...]]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def hold(self, arguments: tuple[Any, ...], then: Callable[[tuple[Any, ...]], None]) -> bool:
        """Have something done when the message of a call has come.

        Args:
            arguments: What gRPC submits to a pool, after the function.
            then: Is given the arguments to submit in their place. It must neither wait nor raise.

        Returns:
            Whether that will be seen to. It will not for what is no call of one message: that need
            not wait.
        """
        if not _is_call(arguments):
            return False
        work, rpc_event, state, behaviour, wait, *coding = arguments
        if getattr(wait, "__code__", None) is not _WAITS:
            return False
        key = object()
        note = server._receive_message(state, rpc_event.call, coding[0])

        def taken() -> Any:  # noqa: ANN401 - a request of any method
            with state.condition:
                request, state.request = state.request, None
                # Of None gRPC makes nothing: nobody waits for the answer any more.
                return request if server._is_rpc_state_active(state) else None

        def received(event: Any) -> Any:  # noqa: ANN401 - both are gRPC's own
            noted = note(event)
            self._calls.pop(key, None)
            with state.condition:
                if not server._is_rpc_state_active(state):
                    return noted
                if state.request is None:
                    code = server.cygrpc.StatusCode.unimplemented
                    server._abort(state, rpc_event.call, code, _NO_MESSAGE)
                    return noted
            then((work, rpc_event, state, behaviour, taken, *coding))
            return noted

        with state.condition:
            operations = (server.cygrpc.ReceiveMessageOperation(0),)
            rpc_event.call.start_server_batch(operations, received)
            state.due.add(server._RECEIVE_MESSAGE_TOKEN)
        self._calls[key] = time.monotonic(), arguments
        self._end_oldest()
        return True

    def _end_oldest(self) -> None:
        latest = time.monotonic() - _LEAST_SECONDS
        while len(self._calls) > self._most:
            key, (came, arguments) = next(iter(self._calls.items()))
            if came > latest and len(self._calls) <= _FAR_TOO_MANY * self._most:
                break
            del self._calls[key]
            _, event, state, *_ = arguments
            # In the context of the call, which knows who calls.
            _end(arguments, state.context.run(self._give_up, details_of(event)))


def _end(arguments: tuple[Any, ...], status: Status) -> None:
    """End a call that gRPC has submitted, unless it has ended."""
    _, rpc_event, state, *_ = arguments
    with state.condition:
        if server._is_rpc_state_active(state):
            state.trailing_metadata = status.metadata
            server._abort(state, rpc_event.call, status.code, status.details)


def _is_call(arguments: tuple[Any, ...]) -> bool:
    return known.IS_KNOWN and len(arguments) == 1 + len(known.PARTS["_unary_response_in_pool"])


class ReceivingPool(ThreadPoolExecutor):
    """A pool of threads, none of which waits for the message of a call.

    Args:
        threads: How many.
        name: Of the threads.
        held: The calls whose message has not come.
    """

    def __init__(self, threads: int, name: str, held: Held) -> None:
        super().__init__(threads, name)
        self._held = held

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """See ``Executor``. The future of a call that is held is done already, and has no result."""
        submit = super().submit

        def begin(arguments: tuple[Any, ...]) -> None:
            with contextlib.suppress(RuntimeError):  # the process is about to end
                submit(fn, *arguments, **kwargs)

        return DONE if self._held.hold(args, begin) else submit(fn, *args, **kwargs)
