"""Builds the ONNX graph of the Transformer from its torch weights.

The graph gives the vector after the last event alone, so its last block computes no other: only the
keys and values there are of all events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from onnx import NodeProto, TensorProto, helper

from kinrec.trainer.encoders.graph import (
    array_of,
    embedding_nodes,
    event_inputs,
    layer_norm_node,
    transposed,
    vectors_output,
    write_graph,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders.transformer import Attention, Block, TransformerEncoder

Weights = dict[str, "NDArray[Any]"]


def export_transformer(
    encoder: TransformerEncoder, directory: Path, embeddings: str, *, masked: float
) -> manifest_pb2.Encoder:
    """Write ``encoder.onnx``.

    Inputs: those of ``event_inputs``, with at most ``max_length`` events. Output: vectors, float32
    (batch, vector), after the last event of each sequence.

    Args:
        encoder: What to export.
        directory: Where to write.
        embeddings: The name of the file of the item embeddings.
        masked: The score of an event that is not to be seen.
    """
    blocks = cast("list[Block]", list(encoder.blocks))
    nodes = [*embedding_nodes("states0"), *_distance_nodes()]
    weights: Weights = {
        "type_embeddings": array_of(encoder.type_embedding.weight),
        "gap_embeddings": array_of(encoder.gap_embedding.weight),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "axis0": np.array([0], np.int64),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "window": np.array(encoder.max_length, np.int64),
    }
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        nodes += _block_nodes(block, number, is_last=is_last)
        weights |= _block_weights(block, number, masked)
    nodes.append(helper.make_node("Squeeze", [f"states{len(blocks)}", "axis1"], ["vectors"]))
    spec = write_graph(
        directory,
        embeddings,
        nodes,
        weights,
        inputs=event_inputs(),
        outputs=[vectors_output(encoder.item_embedding.embedding_dim)],
    )
    spec.kind, spec.layers, spec.max_length = encoder.kind, len(blocks), encoder.max_length
    return spec


def _distance_nodes() -> list[NodeProto]:
    """Give the rows of the bias tables for each pair of events, and for each one's last event.

    Row 0 hides what comes later, row ``1 + distance`` is the bias of an event so far back.
    ``pairs`` is (time, time), ``from_last`` (batch, time).
    """
    return [
        helper.make_node("Shape", ["items"], ["time1"], start=1, end=2),
        helper.make_node("Squeeze", ["time1", "axis0"], ["time"]),
        helper.make_node("Range", ["zero", "time", "one"], ["steps"]),
        helper.make_node("Add", ["steps", "one"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "axis1"], ["row_column"]),
        helper.make_node("Sub", ["row_column", "steps"], ["all_pairs"]),
        helper.make_node("Clip", ["all_pairs", "zero", "window"], ["pairs"]),
        helper.make_node("Cast", ["lengths"], ["lengths64"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["lengths64", "axis1"], ["length_column"]),
        helper.make_node("Sub", ["length_column", "steps"], ["all_from_last"]),
        helper.make_node("Clip", ["all_from_last", "zero", "window"], ["from_last"]),
        helper.make_node("Sub", ["length_column", "one"], ["last_column"]),
    ]


def _block_nodes(block: Block, number: int, *, is_last: bool) -> list[NodeProto]:
    """Give a block from ``states{number}``, (batch, time, dim), to ``states{number + 1}``.

    The last block gives (batch, 1, dim).
    """
    n, following = str(number), f"states{number + 1}"
    asking = "last_states" if is_last else f"states{n}"
    nodes: list[NodeProto] = []
    if is_last:
        nodes = [
            helper.make_node("GatherND", [f"states{n}", "last_column"], ["last_row"], batch_dims=1),
            helper.make_node("Unsqueeze", ["last_row", "axis1"], [asking]),
        ]
    return [
        *nodes,
        *_attention_nodes(n, asking, is_last=is_last),
        helper.make_node("Add", [asking, f"attended{n}"], [f"with_attended{n}"]),
        _norm_node(block.attention_norm, f"with_attended{n}", "norm", n, f"middle{n}"),
        *_linear_nodes(f"middle{n}", "up", n, f"wide{n}"),
        helper.make_node("Relu", [f"wide{n}"], [f"active{n}"]),
        *_linear_nodes(f"active{n}", "down", n, f"narrow{n}"),
        helper.make_node("Add", [f"middle{n}", f"narrow{n}"], [f"with_inner{n}"]),
        _norm_node(block.inner_norm, f"with_inner{n}", "inner", n, following),
    ]


def _attention_nodes(n: str, asking: str, *, is_last: bool) -> list[NodeProto]:
    """Give the attention of the events ``asking`` to ``states{n}``: ``attended{n}``."""
    nodes: list[NodeProto] = []
    # Keys are (batch, heads, size, time), the others (batch, heads, time, size).
    for name, source, order in (
        ("query", asking, [0, 2, 1, 3]),
        ("key", f"states{n}", [0, 2, 3, 1]),
        ("value", f"states{n}", [0, 2, 1, 3]),
    ):
        nodes += [
            *_linear_nodes(source, name, n, f"flat_{name}{n}"),
            helper.make_node("Reshape", [f"flat_{name}{n}", f"by_head{n}"], [f"apart_{name}{n}"]),
            helper.make_node("Transpose", [f"apart_{name}{n}"], [f"{name}{n}"], perm=order),
        ]
    if is_last:  # (batch, time, heads) to (batch, heads, 1, time)
        nodes += [
            helper.make_node("Gather", [f"bias_table{n}", "from_last"], [f"looked_up{n}"]),
            helper.make_node("Transpose", [f"looked_up{n}"], [f"turned{n}"], perm=[0, 2, 1]),
            helper.make_node("Unsqueeze", [f"turned{n}", "axis2"], [f"bias{n}"]),
        ]
    else:  # (time, time, heads) to (heads, time, time)
        nodes += [
            helper.make_node("Gather", [f"bias_table{n}", "pairs"], [f"looked_up{n}"]),
            helper.make_node("Transpose", [f"looked_up{n}"], [f"bias{n}"], perm=[2, 0, 1]),
        ]
    return [
        *nodes,
        helper.make_node("MatMul", [f"query{n}", f"key{n}"], [f"products{n}"]),
        helper.make_node("Add", [f"products{n}", f"bias{n}"], [f"scores{n}"]),
        helper.make_node("Softmax", [f"scores{n}"], [f"shares{n}"], axis=-1),
        helper.make_node("MatMul", [f"shares{n}", f"value{n}"], [f"found{n}"]),
        helper.make_node("Transpose", [f"found{n}"], [f"by_time{n}"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"by_time{n}", f"joined{n}"], [f"all_heads{n}"]),
        helper.make_node("MatMul", [f"all_heads{n}", f"out_weight{n}"], [f"attended{n}"]),
    ]


def _norm_node(norm: nn.LayerNorm, source: str, name: str, n: str, output: str) -> NodeProto:
    return layer_norm_node(source, f"{name}_scale{n}", f"{name}_shift{n}", output, norm.eps)


def _linear_nodes(source: str, name: str, n: str, output: str) -> list[NodeProto]:
    return [
        helper.make_node("MatMul", [source, f"{name}_weight{n}"], [f"{output}_product"]),
        helper.make_node("Add", [f"{output}_product", f"{name}_shift{n}"], [output]),
    ]


def _block_weights(block: Block, number: int, masked: float) -> Weights:
    weights: Weights = {
        "norm_scale": array_of(block.attention_norm.weight),
        "norm_shift": array_of(block.attention_norm.bias),
        "inner_scale": array_of(block.inner_norm.weight),
        "inner_shift": array_of(block.inner_norm.bias),
        "up_weight": transposed(block.up.weight),
        "up_shift": array_of(block.up.bias),
        "down_weight": transposed(block.down.weight),
        "down_shift": array_of(block.down.bias),
        **_attention_weights(block.attention, masked),
    }
    return {f"{name}{number}": array for name, array in weights.items()}


def _attention_weights(attention: Attention, masked: float) -> Weights:
    bias = array_of(attention.distance_bias)  # (window, heads)
    heads, size = bias.shape[1], attention.size
    scale = np.float32(size**-0.5)
    return {
        # The scores are scaled here once, not in every run.
        "query_weight": transposed(attention.query.weight) * scale,
        "query_shift": array_of(attention.query.bias) * scale,
        "key_weight": transposed(attention.key.weight),
        "key_shift": array_of(attention.key.bias),
        "value_weight": transposed(attention.value.weight),
        "value_shift": array_of(attention.value.bias),
        "out_weight": transposed(attention.out.weight),
        "bias_table": np.concatenate([np.full((1, heads), masked, np.float32), bias]),
        "by_head": np.array([0, -1, heads, size], np.int64),
        "joined": np.array([0, -1, heads * size], np.int64),
    }
