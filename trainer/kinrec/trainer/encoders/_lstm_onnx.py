"""Builds the ONNX graph of the LSTM encoder from its torch weights.

Built node by node: torch's own exporters cannot follow sequence lengths and states at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kinrec.bundle.v1 import manifest_pb2

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from kinrec.trainer.encoders.lstm import LstmEncoder

OPSET = 17
IR_VERSION = 9

_DTYPES: dict[int, str] = {
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.FLOAT: "float",
}


def export_lstm(encoder: LstmEncoder, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
    """Write ``encoder.onnx``.

    Inputs: items, event_types, gaps, int64 (batch, time); lengths, int32 (batch,), each at least 1;
    h0 and c0, float32 (1, batch, hidden). Outputs: vectors, float32 (batch, vector), after the last
    event of each sequence; hn and cn, float32 (1, batch, hidden).
    """
    dim, hidden = encoder.item_embedding.embedding_dim, encoder.lstm.hidden_size
    sequence, state = ["batch", "time"], ["1", "batch", str(hidden)]
    inputs = [
        _tensor("items", TensorProto.INT64, sequence),
        _tensor("event_types", TensorProto.INT64, sequence),
        _tensor("gaps", TensorProto.INT64, sequence),
        _tensor("lengths", TensorProto.INT32, ["batch"]),
        _tensor("h0", TensorProto.FLOAT, state),
        _tensor("c0", TensorProto.FLOAT, state),
    ]
    outputs = [
        _tensor("vectors", TensorProto.FLOAT, ["batch", str(dim)]),
        _tensor("hn", TensorProto.FLOAT, state),
        _tensor("cn", TensorProto.FLOAT, state),
    ]
    graph = helper.make_graph(
        _nodes(hidden, encoder.norm.eps),
        "encoder",
        inputs,
        outputs,
        [*_weights(encoder), _external_embeddings(directory / embeddings)],
    )
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
        kind=encoder.kind,
        vector_size=dim,
        hidden_size=hidden,
        layers=1,
        carries_state=True,
        inputs=[_describe(value) for value in inputs],
        outputs=[_describe(value) for value in outputs],
    )


def _nodes(hidden: int, epsilon: float) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gather", ["item_embeddings", "items"], ["embedded"]),
        helper.make_node("Gather", ["type_embeddings", "event_types"], ["typed"]),
        helper.make_node("Gather", ["gap_embeddings", "gaps"], ["gapped"]),
        helper.make_node("Add", ["embedded", "typed"], ["with_types"]),
        helper.make_node("Add", ["with_types", "gapped"], ["inputs"]),
        helper.make_node("Transpose", ["inputs"], ["by_time"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM",
            ["by_time", "W", "R", "B", "lengths", "h0", "c0"],
            ["", "hn", "cn"],
            hidden_size=hidden,
        ),
        helper.make_node("Squeeze", ["hn", "zero"], ["h"]),
        helper.make_node("MatMul", ["h", "projection"], ["projected"]),
        helper.make_node("Cast", ["lengths"], ["lengths64"], to=TensorProto.INT64),
        helper.make_node("Sub", ["lengths64", "one"], ["last"]),
        helper.make_node("Unsqueeze", ["last", "one"], ["last_column"]),
        helper.make_node("GatherElements", ["items", "last_column"], ["last_items"], axis=1),
        helper.make_node("Squeeze", ["last_items", "one"], ["last_item"]),
        helper.make_node("Gather", ["item_embeddings", "last_item"], ["last_embedded"]),
        helper.make_node("Add", ["last_embedded", "projected"], ["residual"]),
        helper.make_node(
            "LayerNormalization",
            ["residual", "scale", "shift"],
            ["vectors"],
            axis=-1,
            epsilon=epsilon,
        ),
    ]


def _weights(encoder: LstmEncoder) -> list[TensorProto]:
    lstm = dict(encoder.lstm.named_parameters())
    biases = (_onnx_gates(lstm["bias_ih_l0"]), _onnx_gates(lstm["bias_hh_l0"]))
    arrays: dict[str, NDArray[Any]] = {
        "type_embeddings": _array(encoder.type_embedding.weight),
        "gap_embeddings": _array(encoder.gap_embedding.weight),
        "W": _onnx_gates(lstm["weight_ih_l0"])[np.newaxis],
        "R": _onnx_gates(lstm["weight_hh_l0"])[np.newaxis],
        "B": np.concatenate(biases)[np.newaxis],
        "projection": np.ascontiguousarray(_array(encoder.project.weight).T),
        "scale": _array(encoder.norm.weight),
        "shift": _array(encoder.norm.bias),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


def _onnx_gates(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Reorder the gates from torch's input, forget, cell, output to ONNX's input, output, forget, cell."""
    i, f, g, o = np.split(_array(tensor), 4)
    return np.concatenate([i, o, f, g])


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


def _tensor(name: str, dtype: int, dims: list[str]) -> onnx.ValueInfoProto:
    shape = [int(dim) if dim.isdigit() else dim for dim in dims]
    return helper.make_tensor_value_info(name, dtype, shape)


def _describe(value: onnx.ValueInfoProto) -> manifest_pb2.Tensor:
    kind = value.type.tensor_type
    dims = [dim.dim_param or str(dim.dim_value) for dim in kind.shape.dim]
    return manifest_pb2.Tensor(name=value.name, dtype=_DTYPES[kind.elem_type], dims=dims)
