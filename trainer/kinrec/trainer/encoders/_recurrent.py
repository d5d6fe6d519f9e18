"""What the recurrent encoders have in common: the embeddings before and the residual after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from kinrec.engine import GAP_BUCKETS
from kinrec.trainer.encoders._dropout import Dropout

if TYPE_CHECKING:
    from kinrec.trainer.encoders._base import EncoderSizes


# With the usual dim**-0.5 scores are far apart before anything is learned, and learning starts late.
ITEM_STD = 0.02


class RecurrentEncoder(nn.Module):
    """``LayerNorm(e + W h)``: e embeds the last item, h is the recurrent state over all events.

    Dropout on e keeps the residual, which alone learns what follows each item, from drowning h.

    The recurrent next-item model is GRU4Rec's (Hidasi et al., "Session-based Recommendations with
    Recurrent Neural Networks", ICLR 2016). Scoring items by an inner product with their own input
    embeddings follows Inan et al., "Tying Word Vectors and Word Classifiers", ICLR 2017.

    Args:
        sizes: The sizes.
        cell: The recurrent layer, ``torch.nn.LSTM`` or ``torch.nn.GRU``.
    """

    kind: str
    max_length = 0

    def __init__(self, sizes: EncoderSizes, cell: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        dim, hidden = sizes.vector_size, sizes.hidden_size
        self.item_embedding = nn.Embedding(sizes.items, dim)
        self.type_embedding = nn.Embedding(sizes.event_types, dim)
        self.gap_embedding = nn.Embedding(GAP_BUCKETS, dim)
        self.recurrence = cell(dim, hidden, batch_first=True)
        self.project = nn.Linear(hidden, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(sizes.dropout)
        self.item_dropout = Dropout(sizes.item_dropout)
        nn.init.normal_(self.item_embedding.weight, std=ITEM_STD)
        # Types and gaps start silent: a log in which they say nothing is not disturbed by them.
        nn.init.zeros_(self.type_embedding.weight)
        nn.init.zeros_(self.gap_embedding.weight)

    def forward(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event; see SequenceEncoder.vectors."""
        embedded = self.item_embedding(items)  # (batch, time, dim)
        inputs = embedded + self.type_embedding(event_types) + self.gap_embedding(gaps)
        outputs, _ = self.recurrence(self.dropout(inputs))  # (batch, time, hidden)
        vectors: Tensor = self.norm(
            self.item_dropout(embedded) + self.project(self.dropout(outputs))
        )
        return vectors

    def vectors(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event: (batch, time, vector_size)."""
        return self.forward(items, event_types, gaps)
