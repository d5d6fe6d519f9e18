"""Which files an ONNX graph refers to: onnxruntime opens them beside the graph, whatever they are.

The graph is walked as onnx.proto describes it, without the package onnx, which the server does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from kinrec.engine._errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

# Of each message the fields that lead to a tensor, by number, and what is in them.
_LEADS_TO = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},  # of external_data
}
_KEY, _VALUE = 1, 2
_LOCATION = b"location"
_BYTES = 2  # the wire type of what has a length


def check_graph_files(graph: Path, named: Container[str]) -> None:
    """See that a graph refers to no file but those that are named.

    Args:
        graph: The graph.
        named: The files of the manifest.

    Raises:
        BundleError: It does, or it is no graph.
    """
    try:
        for name in _locations(graph.read_bytes()):
            if name not in named:
                raise BundleError(
                    f"{graph.name}: refers to {name!r}, which the manifest does not name"
                )
    except OSError as error:
        raise BundleError(f"{graph}: {error.strerror}") from error
    except DecodeError as error:
        raise BundleError(f"{graph.name}: is not a graph in ONNX") from error


def _locations(model: bytes) -> Iterator[str]:
    """Where the tensors of a model are that are not in it."""
    waiting = [("model", model)]
    while waiting:
        kind, data = waiting.pop()
        for number, value in _fields(data):
            inner = _LEADS_TO[kind].get(number)
            if inner == "entry":
                entry = dict(_fields(value))
                if entry.get(_KEY) == _LOCATION:
                    yield entry.get(_VALUE, b"").decode("utf-8", "backslashreplace")
            elif inner is not None:
                waiting.append((inner, value))


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length; of an empty message all are unknown."""
    for field in cast("Iterable[Any]", UnknownFieldSet(Empty.FromString(data))):
        if field.wire_type == _BYTES:
            yield field.field_number, field.data
