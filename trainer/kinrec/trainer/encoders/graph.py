"""What the ONNX graphs of the encoders have in common, for those who write another one.

Graphs are built node by node: torch's own exporters cannot follow sequence lengths and states at
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kinrec.bundle.v1 import manifest_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import torch
    from numpy.typing import NDArray
    from onnx import NodeProto, ValueInfoProto

OPSET = 17
IR_VERSION = 9

_DTYPES: dict[int, str] = {
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.FLOAT: "float",
}


def event_inputs() -> list[ValueInfoProto]:
    """Give the inputs of a graph that reads all there is of events.

    ``items``, ``event_types`` and ``gaps`` are int64, (batch, time), padded at the end; ``lengths``
    is int32, (batch,), each at least 1.
    """
    sequences = [
        tensor_info(name, TensorProto.INT64, ["batch", "time"])
        for name in ("items", "event_types", "gaps")
    ]
    return [*sequences, tensor_info("lengths", TensorProto.INT32, ["batch"])]


def vectors_output(vector_size: int) -> ValueInfoProto:
    """Give the output ``vectors``: float32, (batch, vector_size), after each one's last event."""
    return tensor_info("vectors", TensorProto.FLOAT, ["batch", vector_size])


def tensor_info(name: str, dtype: int, dims: Sequence[int | str]) -> ValueInfoProto:
    """Describe an input or output; a dimension is a number, or a name if it varies."""
    return helper.make_tensor_value_info(name, dtype, list(dims))


def embedding_nodes(output: str) -> list[NodeProto]:
    """Give what adds up the embeddings of item, type and gap: ``output``, (batch, time, dim).

    They read the weights ``type_embeddings`` and ``gap_embeddings``.
    """
    return [
        helper.make_node("Gather", ["item_embeddings", "items"], ["embedded"]),
        helper.make_node("Gather", ["type_embeddings", "event_types"], ["typed"]),
        helper.make_node("Gather", ["gap_embeddings", "gaps"], ["gapped"]),
        helper.make_node("Add", ["embedded", "typed"], ["with_types"]),
        helper.make_node("Add", ["with_types", "gapped"], [output]),
    ]


def layer_norm_node(source: str, scale: str, shift: str, output: str, eps: float) -> NodeProto:
    """Give a layer normalization over the last dimension."""
    return helper.make_node(
        "LayerNormalization", [source, scale, shift], [output], axis=-1, epsilon=eps
    )


def array_of(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Give the float32 array of a weight."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


def transposed(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Give the weight of a linear layer, (outputs, inputs), as a right factor, (inputs, outputs)."""
    return np.ascontiguousarray(array_of(tensor).T)


def write_graph(
    directory: Path,
    embeddings: str,
    nodes: Sequence[NodeProto],
    weights: Mapping[str, NDArray[Any]],
    *,
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
) -> manifest_pb2.Encoder:
    """Write ``encoder.onnx``, whose weight ``item_embeddings`` is the file beside it.

    Args:
        directory: Where to write.
        embeddings: The name of the ``.npy`` file of the item embeddings, (items, vector_size).
        nodes: The graph.
        weights: The other weights and constants by name.
        inputs: Any of those of ``event_inputs``, then states: float32,
            (layers, "batch", hidden_size).
        outputs: ``vectors_output``, then the new states.

    Returns:
        The inputs, outputs and vector size for the manifest; the caller says the rest.
    """
    item_embeddings = _external_embeddings(directory / embeddings)
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, [*initializers, item_embeddings])
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="kinrec",
    )
    path = directory / "encoder.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))
    return manifest_pb2.Encoder(
        vector_size=item_embeddings.dims[1],
        inputs=[_describe(value) for value in inputs],
        outputs=[_describe(value) for value in outputs],
    )


def _external_embeddings(path: Path) -> TensorProto:
    """Refer to the array in a ``.npy`` file, so that it is mapped and there is one copy of it."""
    with path.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, _ = np.lib.format.read_array_header_1_0(stream)
        offset = stream.tell()
    tensor = TensorProto(
        name="item_embeddings",
        data_type=TensorProto.FLOAT,
        dims=shape,
        data_location=TensorProto.EXTERNAL,
    )
    length = path.stat().st_size - offset
    for key, value in (("location", path.name), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _describe(value: ValueInfoProto) -> manifest_pb2.Tensor:
    kind = value.type.tensor_type
    dims = [dim.dim_param or str(dim.dim_value) for dim in kind.shape.dim]
    return manifest_pb2.Tensor(name=value.name, dtype=_DTYPES[kind.elem_type], dims=dims)
