"""What this server has of gRPC's own by looking into it, because gRPC has no way to ask for it.

A call is held until its message has come. gRPC takes a thread as soon as it knows of a call, and the
thread then waits for the message: as many callers as there are threads bring a server to a halt by
beginning calls and sending no more. And a thread that waits has to be woken, for every call.

A call is refused before gRPC makes anything for it, so that a flood costs less.

The thread that reads from the connections works on the calls as well. A thread of its own for that
would be woken for each call, and would take the core, its caches and the interpreter's lock from the one
that works whenever something comes.

Where gRPC is made otherwise than is known here, none of this is done.
"""

# ruff: noqa: SLF001 - it is what this module is for

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)

_PARTS = {
    "_handle_call": [
        "rpc_event",
        "method_with_handler",
        "interceptor_pipeline",
        "thread_pool",
        "concurrency_exceeded",
    ],
    "_unary_request": ["rpc_event", "state", "request_deserializer"],
    "_receive_message": ["state", "call", "request_deserializer"],
    "_abort": ["state", "call", "code", "details"],
    "_is_rpc_state_active": ["state"],
    "_serve": ["state"],
    "_process_event_and_continue": ["state", "event"],
    "_begin_shutdown_once": ["state"],
    "_unary_response_in_pool": [
        "rpc_event",
        "state",
        "behavior",
        "argument_thunk",
        "request_deserializer",
        "response_serializer",
    ],
}

_OPERATIONS = (
    "ReceiveMessage",
    "ReceiveCloseOnServer",
    "SendInitialMetadata",
    "SendStatusFromServer",
)
_STATE = {"client", "context", "condition", "due", "request", "trailing_metadata"}

_server: Any = importlib.import_module("grpc._server")


def _is_known() -> bool:
    """Whether all that is used here is there, and takes what it is given."""
    try:
        return (
            all(
                list(inspect.signature(getattr(_server, name)).parameters) == parameters
                for name, parameters in _PARTS.items()
            )
            and vars(_server._RPCState()).keys() >= _STATE
            and all(hasattr(_server.cygrpc, f"{name}Operation") for name in _OPERATIONS)
            and hasattr(_server, "_RECEIVE_MESSAGE_TOKEN")
            and hasattr(_server.cygrpc.CompletionType, "queue_timeout")
            and {"completion_queue", "server_deallocated", "thread_pool"}
            <= inspect.get_annotations(_server._ServerState).keys()
        )
    except (AttributeError, TypeError, ValueError):
        return False


IS_KNOWN = _is_known()
"""Whether gRPC is made as is known here."""

# What waits for the message of a call that has one.
_WAITS = _server._unary_request(None, None, None).__code__ if IS_KNOWN else None
_LEAST_SECONDS = 0.5  # that a call may be held though there are too many, unless there are
_FAR_TOO_MANY = 10  # times as many
_LONGEST_REST = 1.0  # seconds after which it is looked whether the server is still there
_LOOKS = 2  # that find nothing before all is read: of several sockets gRPC looks at one at a time
# Seconds between looks at whether a part of the work takes long, and between the looks of who reads then.
_LONG, _SHORT = 0.1, 0.005
_NO_MESSAGE = b"the call ended without the one message that it takes"


def _done() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future


DONE = _done()
"""For gRPC, which counts calls by their futures where it is told to bound their number, and is not told."""


class Status(NamedTuple):
    """How a call ends.

    Attributes:
        code: The number of the status code.
        details: The text, in UTF-8.
        metadata: What comes with it.
    """

    code: int
    details: bytes
    metadata: tuple[tuple[str, str | bytes], ...]


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
        note = _server._receive_message(state, rpc_event.call, coding[0])

        def taken() -> Any:  # noqa: ANN401 - a request of any method
            with state.condition:
                request, state.request = state.request, None
                # Of None gRPC makes nothing: nobody waits for the answer any more.
                return request if _server._is_rpc_state_active(state) else None

        def received(event: Any) -> Any:  # noqa: ANN401 - both are gRPC's own
            noted = note(event)
            self._calls.pop(key, None)
            with state.condition:
                if not _server._is_rpc_state_active(state):
                    return noted
                if state.request is None:
                    code = _server.cygrpc.StatusCode.unimplemented
                    _server._abort(state, rpc_event.call, code, _NO_MESSAGE)
                    return noted
            then((work, rpc_event, state, behaviour, taken, *coding))
            return noted

        with state.condition:
            operations = (_server.cygrpc.ReceiveMessageOperation(0),)
            rpc_event.call.start_server_batch(operations, received)
            state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
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
            _end(arguments, state.context.run(self._give_up, _details_of(event)))


def _end(arguments: tuple[Any, ...], status: Status) -> None:
    """End a call that gRPC has submitted, unless it has ended."""
    _, rpc_event, state, *_ = arguments
    with state.condition:
        if _server._is_rpc_state_active(state):
            state.trailing_metadata = status.metadata
            _server._abort(state, rpc_event.call, status.code, status.details)


class _Details(NamedTuple):
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


def _details_of(event: Any) -> grpc.HandlerCallDetails:  # noqa: ANN401 - gRPC's own
    # A method that gRPC was told of beforehand names its calls in the other way.
    method = event.call_details.method.decode("utf-8", "replace") or event.tag
    return cast("grpc.HandlerCallDetails", _Details(method, event.invocation_metadata))


def _is_call(arguments: tuple[Any, ...]) -> bool:
    return IS_KNOWN and len(arguments) == 1 + len(_PARTS["_unary_response_in_pool"])


class Work(Protocol):
    """What the thread that reads does besides. For that thread alone."""

    @property
    def waiting(self) -> int:
        """How much there is to do."""

    @property
    def is_due(self) -> bool:
        """Whether it is to be done now, though more can be read."""

    def begin(self) -> None:
        """The thread begins."""

    def rest(self) -> None:
        """All that had come was read and done, until now, when something else has come or time has passed."""

    def expects_more(self) -> bool:
        """Say whether more will come at once, and let go of the core so that it can."""

    def do_some(self) -> None:
        """Do a part of what there is to do. It must not raise."""

    def end(self) -> None:
        """The thread ends."""


class GatedPool(ThreadPoolExecutor):
    """A pool for the calls of a server, in front of which some are refused.

    Nothing of this is used where gRPC is not known.

    Attributes:
        gate: Is told of each call of the server before anything is made of it, in the thread that reads
            calls, and says how it ends; None for a call that is let in.
        work: What the thread that reads does besides; None for nothing.
    """

    gate: Callable[[grpc.HandlerCallDetails], Status | None] | None = None
    work: Work | None = None
    _reader: _Reader | None = None

    def await_read(self, seconds: float) -> None:
        """Wait until all that has come to the server is read, but no longer than so many seconds."""
        if self._reader is not None:
            self._reader.await_all(seconds)


def _handle_gated(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Have calls pass the gates of their servers before gRPC handles them."""

    @functools.wraps(handle)
    def handle_call(event: Any, method: Any, pipeline: Any, pool: Any, *rest: Any) -> Any:  # noqa: ANN401
        gate = pool.gate if isinstance(pool, GatedPool) else None
        if gate is not None and event.success:
            try:
                status = gate(_details_of(event))
                operations = None if status is None else _ends_with(status)
            except Exception:  # noqa: BLE001 - this thread must go on
                _log.exception("whether a call is let in could not be told")
                operations = None
            if operations is not None:
                return _end_new(event, operations), None
        return handle(event, method, pipeline, pool, *rest)

    return handle_call


def _ends_with(status: Status) -> tuple[Any, ...]:
    """Give what is to be done with a call of which nothing is known but how it ends."""
    cygrpc = _server.cygrpc
    return (
        cygrpc.SendInitialMetadataOperation(None, 0),
        cygrpc.ReceiveCloseOnServerOperation(0),
        cygrpc.SendStatusFromServerOperation(status.metadata, status.code, status.details, 0),
    )


def _end_new(event: Any, operations: tuple[Any, ...]) -> object:  # noqa: ANN401 - gRPC's own
    """End a call of which gRPC has made nothing yet.

    Returns:
        What stands for the call among those that have not ended.
    """
    call = object()
    event.call.start_server_batch(operations, lambda _event: (call, ()))
    return call


class _Reader:
    """Reads what comes to a server, as ``grpc._server._serve`` does, and does the work of its pool.

    While a part of the work takes long another thread reads: health is answered, and calls are refused,
    cancelled and ended however long that part takes.
    """

    def __init__(self, state: Any, work: Work) -> None:  # noqa: ANN401 - gRPC's own
        self._state = state
        self._work = work
        self._timeout = _server.cygrpc.CompletionType.queue_timeout
        self._is_done = False  # whether the server has stopped
        self._reads = threading.Lock()  # held by the thread that reads
        self._part = 0  # of the work, odd while one is done
        self._times_read = 0  # that all which had come was read
        self._rests = False  # whether it waits for something to come
        self._stand_in = threading.Thread(target=self._read_meanwhile, name="read", daemon=True)

    def await_all(self, seconds: float) -> None:
        """Wait until all that has come is read, but no longer than so many seconds."""
        before, end = self._times_read, time.monotonic() + seconds
        while self._times_read == before and not (self._rests or self._is_done):
            if time.monotonic() >= end:
                break
            time.sleep(_SHORT)

    def read_and_work(self) -> None:
        """Do both until the server has stopped."""
        work = self._work
        work.begin()
        self._stand_in.start()
        self._reads.acquire()
        while not self._is_done:
            if self._read_all():
                if not work.waiting:
                    self._rests = True
                    self._read(_LONGEST_REST)
                    self._rests = False
                    work.rest()
                    continue
                if work.expects_more():
                    continue
            self._part += 1
            self._reads.release()
            work.do_some()
            self._part += 1
            self._reads.acquire()
        self._reads.release()
        work.end()

    def _read_all(self) -> bool:
        """Read what has come, until the work is due.

        Returns:
            Whether all was read.
        """
        looks = 0
        while looks < _LOOKS:
            if self._read():
                looks = 0
                if self._work.is_due:
                    return False
            else:
                looks += 1
        self._times_read += 1
        return True

    def _read(self, seconds: float = 0.0) -> bool:
        """Read one thing, and have gRPC do what there is to do with it.

        Args:
            seconds: How long to wait for it.

        Returns:
            Whether anything came in that time.
        """
        state = self._state
        if self._is_done:
            return False
        event = state.completion_queue.poll(time.time() + seconds if seconds else 0)
        if state.server_deallocated:
            _server._begin_shutdown_once(state)
        if event.completion_type == self._timeout:
            return False
        if not _server._process_event_and_continue(state, event):
            self._is_done = True
        return True

    def _read_meanwhile(self) -> None:
        """Read while a part of the work takes long."""
        part = 0
        while not self._is_done:
            before, part = part, self._part
            is_long = part % 2 == 1 and part == before
            time.sleep(_SHORT if is_long else _LONG)
            if is_long:
                with self._reads:
                    looks = 0
                    while part == self._part and looks < _LOOKS:
                        looks = 0 if self._read() else looks + 1
                    self._times_read += looks == _LOOKS


def _serve_and_work(serve: Callable[[Any], None]) -> Callable[[Any], None]:
    """Have the thread that reads do the work of the server's pool, if it has some."""

    @functools.wraps(serve)
    def serve_and_work(state: Any) -> None:  # noqa: ANN401 - gRPC's own
        work = state.thread_pool.work if isinstance(state.thread_pool, GatedPool) else None
        if work is None:
            serve(state)
        else:
            pool = state.thread_pool
            pool._reader = _Reader(state, work)
            try:
                pool._reader.read_and_work()
            finally:
                pool._reader = None

    return serve_and_work


if IS_KNOWN:
    _server._handle_call = _handle_gated(_server._handle_call)
    _server._serve = _serve_and_work(_server._serve)


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
