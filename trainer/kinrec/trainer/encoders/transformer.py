"""Causal self-attention over item, event type and time gap.

The blocks are SASRec's (Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018), with
the normalization at the end of each part. Positions are counted back from the event that attends,
by a learned bias on each distance (Shaw et al., "Self-Attention with Relative Position
Representations", NAACL 2018; as a bias, Raffel et al., "Exploring the Limits of Transfer Learning
with a Unified Text-to-Text Transformer", JMLR 2020): the vector after an event is then the same
whatever the length of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kinrec.engine import GAP_BUCKETS
from kinrec.trainer.encoders._dropout import Dropout
from kinrec.trainer.encoders._transformer_onnx import export_transformer

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders._base import EncoderSizes

LAYERS = 2
HEADS = 2
# A score that the softmax turns into exactly zero.
MASKED = -1e9


class Attention(nn.Module):
    """Self-attention in which an event sees itself and those before it.

    Args:
        dim: Length of what comes in and goes out.
        window: The greatest length of a sequence.
        dropout: Share of the attention weights zeroed in training.
    """

    def __init__(self, dim: int, window: int, dropout: float) -> None:
        super().__init__()
        self.size = -(-dim // HEADS)
        self.query = nn.Linear(dim, HEADS * self.size)
        self.key = nn.Linear(dim, HEADS * self.size)
        self.value = nn.Linear(dim, HEADS * self.size)
        self.out = nn.Linear(HEADS * self.size, dim, bias=False)
        self.distance_bias = nn.Parameter(torch.zeros(window, HEADS))
        self.dropout = Dropout(dropout)
        # Near zero, as the last layer of the block: at first a vector is the last item's embedding.
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """Attend: (batch, time, dim) to (batch, time, dim)."""
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        distances = steps[:, None] - steps  # (time, time), from the event that attends back
        queries, keys, values = (
            layer(inputs).unflatten(-1, (HEADS, self.size)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # (batch, heads, time, size)
        scores = queries @ keys.transpose(-1, -2) * self.size**-0.5
        scores = scores + self.distance_bias[distances.clamp(min=0)].permute(2, 0, 1)
        shares = torch.softmax(scores.masked_fill(distances < 0, MASKED), dim=-1)
        found = self.dropout(shares) @ values
        attended: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return attended


class Block(nn.Module):
    """Attention, then two layers on each event by itself; each adds to what came in, normalized."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        dim = sizes.vector_size
        self.attention = Attention(dim, sizes.window, sizes.dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, sizes.hidden_size)
        self.down = nn.Linear(sizes.hidden_size, dim)
        self.inner_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(sizes.dropout)
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Transform: (batch, time, dim) to (batch, time, dim)."""
        middle = self.attention_norm(inputs + self.dropout(self.attention(inputs)))
        inner = self.dropout(torch.relu(self.up(middle)))
        outputs: Tensor = self.inner_norm(middle + self.dropout(self.down(inner)))
        return outputs


class TransformerEncoder(nn.Module):
    """Carries no state, and takes at most as many events as a training sequence has."""

    kind = "transformer"

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        dim = sizes.vector_size
        self.max_length = sizes.window
        self.item_embedding = nn.Embedding(sizes.items, dim)
        self.type_embedding = nn.Embedding(sizes.event_types, dim)
        self.gap_embedding = nn.Embedding(GAP_BUCKETS, dim)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(LAYERS))
        self.dropout = Dropout(sizes.dropout)
        nn.init.normal_(self.item_embedding.weight, std=dim**-0.5)
        # As in the recurrent encoders, types and gaps start silent.
        nn.init.zeros_(self.type_embedding.weight)
        nn.init.zeros_(self.gap_embedding.weight)

    def forward(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event; see SequenceEncoder.vectors."""
        if items.shape[1] > self.max_length:
            raise ValueError(f"takes at most {self.max_length} events, got {items.shape[1]}")
        embedded = self.item_embedding(items)  # (batch, time, dim)
        embedded = embedded + self.type_embedding(event_types) + self.gap_embedding(gaps)
        states: Tensor = self.dropout(embedded)
        for block in self.blocks:
            states = block(states)
        return states

    def vectors(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event: (batch, time, vector_size)."""
        return self.forward(items, event_types, gaps)

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write ``encoder.onnx``; see SequenceEncoder."""
        return export_transformer(self, directory, embeddings, masked=MASKED)
