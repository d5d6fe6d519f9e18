"""What this server has of gRPC's own by looking into it, because gRPC has no way to ask for it.

A call is held until its message has come. gRPC takes a thread as soon as it knows of a call, and the
thread then waits for the message: as many callers as there are threads bring a server to a halt by
beginning calls and sending no more. And a thread that waits has to be woken, for every call.

A call is refused without what gRPC makes for one that is answered, so that a flood costs less.

Where gRPC is made otherwise than is known here, neither is done.
"""

# ruff: noqa: SLF001 - it is what this module is for

from __future__ import annotations

import contextlib
import importlib
import inspect
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

_PARTS = {
    "_unary_request": ["rpc_event", "state", "request_deserializer"],
    "_receive_message": ["state", "call", "request_deserializer"],
    "_abort": ["state", "call", "code", "details"],
    "_unary_response_in_pool": [
        "rpc_event",
        "state",
        "behavior",
        "argument_thunk",
        "request_deserializer",
        "response_serializer",
    ],
}

_server: Any = importlib.import_module("grpc._server")


def _is_known() -> bool:
    """Whether all that is used here is there, and takes what it is given."""
    try:
        return all(
            list(inspect.signature(getattr(_server, name)).parameters) == parameters
            for name, parameters in _PARTS.items()
        ) and bool(_server._RECEIVE_MESSAGE_TOKEN and _server.cygrpc.ReceiveMessageOperation)
    except (AttributeError, TypeError, ValueError):
        return False


IS_KNOWN = _is_known()
"""Whether gRPC is made as is known here."""

# What waits for the message of a call that has one.
_WAITS = _server._unary_request(None, None, None).__code__ if IS_KNOWN else None


def _done() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future


DONE = _done()
"""For gRPC, which counts calls by their futures where it is told to bound their number, and is not told."""


def hold(
    arguments: tuple[Any, ...], then: Callable[[tuple[Any, ...]], None]
) -> Callable[[], None] | None:
    """Have something done when the message of a call has come, or it is known that none will.

    Args:
        arguments: What gRPC submits to a pool, after the function.
        then: Is given the arguments to submit in their place, by the thread that serves all calls:
            it must neither wait nor raise.

    Returns:
        What cancels the call, whose message will then not come; None if nothing will be done, for what
        is no call of one message need not wait.
    """
    if not IS_KNOWN or len(arguments) != 1 + len(_PARTS["_unary_response_in_pool"]):
        return None
    work, rpc_event, state, behaviour, wait, *coding = arguments
    if getattr(wait, "__code__", None) is not _WAITS:
        return None
    note = _server._receive_message(state, rpc_event.call, coding[0])

    def taken() -> Any:  # noqa: ANN401 - a request of any method
        with state.condition:
            request, state.request = state.request, None
        # Without a request it ends the call as gRPC would have, and waits for nothing.
        return wait() if request is None else request

    def received(event: Any) -> Any:  # noqa: ANN401 - both are gRPC's own
        noted = note(event)
        then((work, rpc_event, state, behaviour, taken, *coding))
        return noted

    with state.condition:
        rpc_event.call.start_server_batch((_server.cygrpc.ReceiveMessageOperation(0),), received)
        state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
    cancel: Callable[[], None] = rpc_event.call.cancel
    return cancel


def refuse(
    arguments: tuple[Any, ...], code: int, details: bytes, metadata: tuple[tuple[str, Any], ...]
) -> bool:
    """End a call in this thread, before anything of it is looked at.

    Args:
        arguments: As of ``hold``.
        code: The number of the status code.
        details: The text of the status, in UTF-8.
        metadata: What comes with it.

    Returns:
        Whether it has been ended.
    """
    if not IS_KNOWN or len(arguments) != 1 + len(_PARTS["_unary_response_in_pool"]):
        return False
    _, rpc_event, state, *_ = arguments
    with state.condition:
        state.trailing_metadata = metadata
        _server._abort(state, rpc_event.call, code, details)
    return True


class ReceivingPool(ThreadPoolExecutor):
    """A pool of threads, none of which waits for the message of a call."""

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """See ``Executor``. The future of a call that is held is done already, and has no result."""
        submit = super().submit

        def begin(held: tuple[Any, ...]) -> None:
            with contextlib.suppress(RuntimeError):  # the process is about to end
                submit(fn, *held, **kwargs)

        return submit(fn, *args, **kwargs) if hold(args, begin) is None else DONE
