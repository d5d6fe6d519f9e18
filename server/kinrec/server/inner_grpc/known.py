"""Says whether gRPC is made as this package knows it."""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

import importlib
import inspect
from typing import Any

PARTS = {
    "_request_registered_call": ["state", "method"],
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
_SERVER_STATE = {
    "completion_queue",
    "due",
    "lock",
    "registered_method_handlers",
    "rpc_states",
    "server_deallocated",
    "stage",
    "thread_pool",
}

server: Any = importlib.import_module("grpc._server")
"""The module of gRPC that is looked into."""


def _is_known() -> bool:
    """Whether all that is used here is there, and takes what it is given."""
    try:
        return (
            all(
                list(inspect.signature(getattr(server, name)).parameters) == parameters
                for name, parameters in PARTS.items()
            )
            and vars(server._RPCState()).keys() >= _STATE
            and all(hasattr(server.cygrpc, f"{name}Operation") for name in _OPERATIONS)
            and hasattr(server, "_RECEIVE_MESSAGE_TOKEN")
            and hasattr(server.cygrpc.CompletionType, "queue_timeout")
            and hasattr(server._ServerStage, "STARTED")
            and hasattr(server.cygrpc.Server, "request_registered_call")
            and inspect.get_annotations(server._ServerState).keys() >= _SERVER_STATE
        )
    except (AttributeError, TypeError, ValueError):
        return False


IS_KNOWN = _is_known()
"""Whether gRPC is made as is known here."""
