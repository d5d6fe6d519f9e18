"""Refuses calls before gRPC makes anything for them, so that a flood costs less."""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from kinrec.server.inner_grpc import known
from kinrec.server.inner_grpc.known import server

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

_log = logging.getLogger(__name__)


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


class _Details(NamedTuple):
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


def details_of(event: Any) -> grpc.HandlerCallDetails:  # noqa: ANN401 - gRPC's own
    """Give what is called, and with what."""
    # A method that gRPC was told of beforehand names its calls in the other way.
    method = event.call_details.method.decode("utf-8", "replace") or event.tag
    return cast("grpc.HandlerCallDetails", _Details(method, event.invocation_metadata))


def time_left(event: Any) -> float:  # noqa: ANN401 - gRPC's own
    """Give the seconds that are left to answer a call; very many if there is no deadline.

    By the clock that can be set, so it is for when the call has just come: what gRPC says of its deadline
    is by that clock as well.
    """
    left: float = event.call_details.deadline - time.time()
    return left


class GatedPool(ThreadPoolExecutor):
    """A pool for the calls of a server, in front of which some are refused.

    Attributes:
        gate: Is told of each call of the server before anything is made of it, in the thread that reads
            calls: its details, and the seconds that are left to answer it. It says how the call ends;
            None for one that is let in. Not asked where gRPC is not known.
    """

    gate: Callable[[grpc.HandlerCallDetails, float], Status | None] | None = None


def _handle_gated(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Have calls pass the gates of their servers before gRPC handles them."""

    @functools.wraps(handle)
    def handle_call(event: Any, method: Any, pipeline: Any, pool: Any, *rest: Any) -> Any:  # noqa: ANN401
        gate = pool.gate if isinstance(pool, GatedPool) else None
        if gate is not None and event.success:
            try:
                status = gate(details_of(event), time_left(event))
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
    cygrpc = server.cygrpc
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


if known.IS_KNOWN:
    server._handle_call = _handle_gated(server._handle_call)
