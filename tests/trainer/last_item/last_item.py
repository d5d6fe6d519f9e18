"""An encoder from outside of kinrec: the last item alone says what comes next.

A factorized Markov chain, as in Rendle et al., "Factorizing Personalized Markov Chains for
Next-Basket Recommendation", WWW 2010, without the person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper
from torch import Tensor, nn

from kinrec.trainer.encoders.graph import event_inputs, transposed, vectors_output, write_graph

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders import EncoderSizes


class LastItemEncoder(nn.Module):
    """``W e``: e embeds the last item."""

    kind = "last-item"
    max_length = 0

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(sizes.items, sizes.vector_size)
        self.step = nn.Linear(sizes.vector_size, sizes.vector_size, bias=False)

    def vectors(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:  # noqa: ARG002 - the protocol's
        """Give the interest vector after each event: (batch, time, vector_size)."""
        vectors: Tensor = self.step(self.item_embedding(items))
        return vectors

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write a graph that reads neither event types nor gaps."""
        nodes = [
            helper.make_node("Cast", ["lengths"], ["lengths64"], to=TensorProto.INT64),
            helper.make_node("Sub", ["lengths64", "one"], ["last"]),
            helper.make_node("Unsqueeze", ["last", "one"], ["last_column"]),
            helper.make_node("GatherND", ["items", "last_column"], ["last_items"], batch_dims=1),
            helper.make_node("Gather", ["item_embeddings", "last_items"], ["embedded"]),
            helper.make_node("MatMul", ["embedded", "step"], ["vectors"]),
        ]
        spec = write_graph(
            directory,
            embeddings,
            nodes,
            {"one": np.array([1], np.int64), "step": transposed(self.step.weight)},
            inputs=[value for value in event_inputs() if value.name in ("items", "lengths")],
            outputs=[vectors_output(self.step.out_features)],
        )
        spec.kind, spec.layers = self.kind, 1
        return spec
