"""Builds the ONNX graphs of the recurrent encoders from their torch weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from kinrec.trainer.encoders.graph import (
    array_of,
    embedding_nodes,
    event_inputs,
    layer_norm_node,
    tensor_info,
    transposed,
    vectors_output,
    write_graph,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders._recurrent import RecurrentEncoder


def export_recurrent(
    encoder: RecurrentEncoder,
    directory: Path,
    embeddings: str,
    *,
    operator: str,
    gates: Sequence[int],
    states: Sequence[str],
    linear_before_reset: int | None = None,
) -> manifest_pb2.Encoder:
    """Write ``encoder.onnx``.

    Inputs: those of ``event_inputs``, and for each state s0, float32 (1, batch, hidden). Outputs:
    vectors, float32 (batch, vector), after the last event of each sequence; for each state sn,
    float32 (1, batch, hidden).

    Args:
        encoder: What to export.
        directory: Where to write.
        embeddings: The name of the file of the item embeddings.
        operator: The recurrent ONNX operator.
        gates: For each gate in ONNX's order its place in torch's.
        states: The letters of the states; the first is the hidden one.
        linear_before_reset: Of ONNX's GRU; None for others.
    """
    dim, hidden = encoder.item_embedding.embedding_dim, encoder.recurrence.hidden_size
    shape = (1, "batch", hidden)
    initial = [tensor_info(f"{state}0", TensorProto.FLOAT, shape) for state in states]
    final = [tensor_info(f"{state}n", TensorProto.FLOAT, shape) for state in states]
    recurrence = helper.make_node(
        operator,
        ["by_time", "W", "R", "B", "lengths", *(value.name for value in initial)],
        ["", *(value.name for value in final)],
        hidden_size=hidden,
        linear_before_reset=linear_before_reset,
    )
    spec = write_graph(
        directory,
        embeddings,
        _nodes(recurrence, encoder.norm.eps),
        _weights(encoder, gates),
        inputs=[*event_inputs(), *initial],
        outputs=[vectors_output(dim), *final],
    )
    spec.kind, spec.hidden_size, spec.layers = encoder.kind, hidden, 1
    spec.carries_state = True
    return spec


def _nodes(recurrence: NodeProto, epsilon: float) -> list[NodeProto]:
    return [
        *embedding_nodes("inputs"),
        helper.make_node("Transpose", ["inputs"], ["by_time"], perm=[1, 0, 2]),
        recurrence,
        helper.make_node("Squeeze", ["hn", "zero"], ["h"]),
        helper.make_node("MatMul", ["h", "projection"], ["projected"]),
        helper.make_node("Cast", ["lengths"], ["lengths64"], to=TensorProto.INT64),
        helper.make_node("Sub", ["lengths64", "one"], ["last"]),
        helper.make_node("Unsqueeze", ["last", "one"], ["last_column"]),
        helper.make_node("GatherElements", ["items", "last_column"], ["last_items"], axis=1),
        helper.make_node("Squeeze", ["last_items", "one"], ["last_item"]),
        helper.make_node("Gather", ["item_embeddings", "last_item"], ["last_embedded"]),
        helper.make_node("Add", ["last_embedded", "projected"], ["residual"]),
        layer_norm_node("residual", "scale", "shift", "vectors", epsilon),
    ]


def _weights(encoder: RecurrentEncoder, gates: Sequence[int]) -> dict[str, NDArray[Any]]:
    weights = dict(encoder.recurrence.named_parameters())
    biases = [_in_order(weights[name], gates) for name in ("bias_ih_l0", "bias_hh_l0")]
    return {
        "type_embeddings": array_of(encoder.type_embedding.weight),
        "gap_embeddings": array_of(encoder.gap_embedding.weight),
        "W": _in_order(weights["weight_ih_l0"], gates)[np.newaxis],
        "R": _in_order(weights["weight_hh_l0"], gates)[np.newaxis],
        "B": np.concatenate(biases)[np.newaxis],
        "projection": transposed(encoder.project.weight),
        "scale": array_of(encoder.norm.weight),
        "shift": array_of(encoder.norm.bias),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }


def _in_order(tensor: torch.Tensor, gates: Sequence[int]) -> NDArray[np.float32]:
    """Reorder the gates, which torch puts one below the other, to ONNX's order."""
    parts = np.split(array_of(tensor), len(gates))
    return np.concatenate([parts[gate] for gate in gates])
