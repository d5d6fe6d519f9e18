"""Holds calls until their messages have come.

gRPC takes a thread as soon as it knows of a call, and the thread then waits for the message: as many
callers as there are threads bring a server to a halt by beginning calls and sending no more. And a thread
that waits has to be woken, for every call.
"""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kinrec.server.inner_grpc import known
from kinrec.server.inner_grpc.gate import method_of, time_left
from kinrec.server.inner_grpc.known import server

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinrec.server.inner_grpc.gate import Metadata, Status

_Result = TypeVar("_Result")

# What waits for the message of a call that has one.
_WAITS = server._unary_request(None, None, None).__code__ if known.IS_KNOWN else None
_LEAST_SECONDS = 0.5  # that a call may be held though there are too many, unless there are
_FAR_TOO_MANY = 10  # times as many
_NO_MESSAGE = b"the call ended without the one message that it takes"


class NoteLeft(Protocol):
    """See ``Held``."""

    def __call__(self, method: str, metadata: Metadata, *, is_late: bool) -> None:
        """Note it."""


def _nobody(method: str, metadata: Metadata, *, is_late: bool) -> None:
    """Be told of calls, and make nothing of it."""


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
        give_up: Is told of the one that is ended, by the full name of its method and what it came with,
            and says how.
        note_left: Likewise of each whose caller has gone before anybody began it, and whether its
            deadline had passed.
    """

    def __init__(
        self,
        most: int,
        give_up: Callable[[str, Metadata], Status],
        note_left: NoteLeft = _nobody,
    ) -> None:
        self._most = most
        self._give_up = give_up
        self._note_left = note_left
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

        def note_left() -> None:
            method, metadata = method_of(rpc_event), rpc_event.invocation_metadata
            self._note_left(method, metadata, is_late=time_left(rpc_event) <= 0.0)

        def taken() -> Any:  # noqa: ANN401 - a request of any method
            with state.condition:
                request, state.request = state.request, None
                if server._is_rpc_state_active(state):
                    return request
            note_left()
            return None  # of which gRPC makes nothing

        def received(event: Any) -> Any:  # noqa: ANN401 - both are gRPC's own
            noted = note(event)
            was_held = self._calls.pop(key, None) is not None
            with state.condition:
                is_awaited = server._is_rpc_state_active(state)
                if is_awaited and state.request is None:
                    code = server.cygrpc.StatusCode.unimplemented
                    server._abort(state, rpc_event.call, code, _NO_MESSAGE)
                    return noted
            if is_awaited:
                then((work, rpc_event, state, behaviour, taken, *coding))
            elif was_held:
                state.context.run(note_left)
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
            called = method_of(event), event.invocation_metadata
            _end(arguments, state.context.run(self._give_up, *called))


def _end(arguments: tuple[Any, ...], status: Status) -> None:
    """End a call that gRPC has submitted, unless it has ended."""
    _, rpc_event, state, *_ = arguments
    with state.condition:
        if server._is_rpc_state_active(state):
            state.trailing_metadata = status.metadata
            server._abort(state, rpc_event.call, status.code, status.details)


def due_of(arguments: tuple[Any, ...], came: float) -> float:
    """Give the deadline of what has been submitted, as ``time.monotonic`` gives it.

    Args:
        arguments: What gRPC submits to a pool, after the function.
        came: When that was.
    """
    return came + time_left(arguments[1]) if _is_call(arguments) else math.inf


def _is_call(arguments: tuple[Any, ...]) -> bool:
    return known.IS_KNOWN and len(arguments) == 1 + len(known.PARTS["_unary_response_in_pool"])


class EndingPool(ThreadPoolExecutor):
    """A pool of threads that ends the calls for which it can have no thread.

    The system may have no more, or the process be about to end. What the pool raises then would end the
    thread that reads calls.

    Args:
        threads: How many.
        name: Of the threads.
        without_thread: How a call ends then.
    """

    def __init__(self, threads: int, name: str, without_thread: Status) -> None:
        super().__init__(threads, name)
        self._without_thread = without_thread

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """See ``Executor``. The future of a call that is ended is done already, and has no result."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            if not _is_call(args):
                raise
            _end(args, self._without_thread)
            return DONE


class ReceivingPool(EndingPool):
    """A pool of threads, none of which waits for the message of a call.

    Args:
        threads: How many.
        name: Of the threads.
        without_thread: See ``EndingPool``.
        held: The calls whose message has not come.
    """

    def __init__(self, threads: int, name: str, without_thread: Status, held: Held) -> None:
        super().__init__(threads, name, without_thread)
        self._held = held

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """See ``EndingPool``. The future of a call that is held is done already as well."""
        submit = super().submit

        def begin(arguments: tuple[Any, ...]) -> None:
            submit(fn, *arguments, **kwargs)

        return DONE if self._held.hold(args, begin) else submit(fn, *args, **kwargs)
