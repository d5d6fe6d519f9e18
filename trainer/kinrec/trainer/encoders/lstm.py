"""An LSTM over item, event type and time gap, with a residual from the last item.

The recurrent next-item model is GRU4Rec's (Hidasi et al., "Session-based Recommendations with
Recurrent Neural Networks", ICLR 2016). Scoring items by an inner product with their own input
embeddings follows Inan et al., "Tying Word Vectors and Word Classifiers", ICLR 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kinrec.engine import GAP_BUCKETS
from kinrec.trainer.encoders._lstm_onnx import export_lstm

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders._base import EncoderSizes

State = tuple[Tensor, Tensor]


class LstmEncoder(nn.Module):
    """``LayerNorm(e + W h)``: e embeds the last item, h is the state of an LSTM over all events."""

    kind = "lstm"

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        dim, hidden = sizes.vector_size, sizes.hidden_size
        self.item_embedding = nn.Embedding(sizes.items, dim)
        self.type_embedding = nn.Embedding(sizes.event_types, dim)
        self.gap_embedding = nn.Embedding(GAP_BUCKETS, dim)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.project = nn.Linear(hidden, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)
        nn.init.normal_(self.item_embedding.weight, std=dim**-0.5)
        # Types and gaps start silent: a log in which they say nothing is not disturbed by them.
        nn.init.zeros_(self.type_embedding.weight)
        nn.init.zeros_(self.gap_embedding.weight)

    def forward(
        self, items: Tensor, event_types: Tensor, gaps: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Run over a batch of sequences of one length.

        Args:
            items: int64, (batch, time).
            event_types: int64, (batch, time).
            gaps: int64, (batch, time).
            state: h and c, each float32, (1, batch, hidden_size); zeros if None.

        Returns:
            The interest vector after each event, (batch, time, vector_size), and the state after
            the last.
        """
        embedded = self.item_embedding(items)  # (batch, time, dim)
        inputs = embedded + self.type_embedding(event_types) + self.gap_embedding(gaps)
        outputs, state = self.lstm(self.dropout(inputs), state)  # (batch, time, hidden)
        return self.norm(embedded + self.project(self.dropout(outputs))), state

    def vectors(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event: (batch, time, vector_size)."""
        return torch.as_tensor(self(items, event_types, gaps)[0])

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write ``encoder.onnx``; see Encoder."""
        return export_lstm(self, directory, embeddings)
