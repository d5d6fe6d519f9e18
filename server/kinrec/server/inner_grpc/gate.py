"""Refuses calls before gRPC makes anything for them, so that a flood costs less."""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kinrec.server.inner_grpc.known import server

if TYPE_CHECKING:
    from collections.abc import Iterable

    Metadata = Iterable[tuple[str, str | bytes]]

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


class Gate(Protocol):
    """Is told of each call of the methods of a server when it has come, in the thread that reads calls."""

    def __call__(self, method: str, metadata: Metadata, time_left: float, /) -> Status | None:
        """Say how a call ends; None for one that is let in.

        Args:
            method: The full name of the method.
            metadata: What the call came with.
            time_left: The seconds in which it must be answered.
        """


def method_of(event: Any) -> str:  # noqa: ANN401 - gRPC's own
    """Give the full name of the method that a call is of."""
    # Of a method that gRPC was told of beforehand the event has the name in the other place.
    method: str = event.call_details.method.decode("utf-8", "replace") or event.tag
    return method


def time_left(event: Any) -> float:  # noqa: ANN401 - gRPC's own
    """Give the seconds that are left to answer a call; very many if there is no deadline.

    By the clock that can be set, so it is for when the call has just come: what gRPC says of its deadline
    is by that clock as well.
    """
    left: float = event.call_details.deadline - time.time()
    return left


class _Refused:
    """A call that was refused, until it has ended. What gRPC calls then."""

    __slots__ = ()

    def __call__(self, _event: object) -> tuple[_Refused, tuple[()]]:
        return self, ()


def refuse(state: Any, events: list[Any], gate: Gate | None) -> list[Any]:  # noqa: ANN401 - gRPC's own
    """Refuse the calls that the gate does not let in, and see to the ends of those that were refused.

    All are asked about before any is refused: what gRPC does for one leaves little of the gate in the
    caches of the core.

    Args:
        state: The server.
        events: What has come.
        gate: Tells which calls are refused; None for none.

    Returns:
        What else has come, for gRPC, which has made nothing for what is refused.
    """
    if gate is None:
        return events
    with state.lock:
        # Of a server that stops gRPC sees to the ends, to know of the last; it is asked for nothing more.
        is_serving = state.stage is server._ServerStage.STARTED
        rest, refused = [], []
        for event in events:
            tag = event.tag
            if is_serving and tag.__class__ is _Refused:
                state.rpc_states.remove(tag)
                continue
            is_call = event.success and tag in state.registered_method_handlers
            operations = _operations(gate, event) if is_call else None
            if operations is None:
                rest.append(event)
            else:
                refused.append((event, operations))
        for event, operations in refused:
            call = _Refused()
            event.call.start_server_batch(operations, call)
            state.rpc_states.add(call)
        queue = state.completion_queue
        for event, _ in refused:
            if is_serving:
                # As ``_request_registered_call`` does; what is due has not changed.
                state.server.request_registered_call(queue, queue, event.tag, event.tag)
            else:
                state.due.remove(event.tag)
    return rest


def _operations(gate: Gate, event: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 - gRPC's own
    """Give what is to be done with a call if it is refused; None for one that is let in."""
    try:
        status = gate(event.tag, event.invocation_metadata, time_left(event))
        if status is None:
            return None
        cygrpc = server.cygrpc
        return (
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.ReceiveCloseOnServerOperation(0),
            cygrpc.SendStatusFromServerOperation(status.metadata, status.code, status.details, 0),
        )
    except Exception:  # noqa: BLE001 - this thread must go on
        _log.exception("whether a call is let in could not be told")
        return None
