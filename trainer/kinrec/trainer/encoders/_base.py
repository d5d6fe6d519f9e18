"""What an encoder is: the part that turns a behaviour sequence into interest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from kinrec.bundle.v1 import manifest_pb2


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """The sizes that an encoder is built for.

    Attributes:
        items: Number of items.
        event_types: Number of event type codes, the unspecified one included.
        vector_size: Length of an item embedding and of an interest vector.
        hidden_size: Length of the recurrent state.
        dropout: Share of the inputs and outputs zeroed in training, 0 to below 1.
    """

    items: int
    event_types: int
    vector_size: int
    hidden_size: int
    dropout: float


class Encoder(Protocol):
    """A sequence encoder: a torch module whose item embeddings are both its input and output side.

    Attributes:
        kind: The name by which a configuration asks for it.
        item_embedding: (items, vector_size).
    """

    kind: str
    item_embedding: nn.Embedding

    def vectors(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event.

        Args:
            items: int64, (batch, time); any item at padded places, which come last.
            event_types: int64, (batch, time).
            gaps: int64, (batch, time).

        Returns:
            float32, (batch, time, vector_size). Its inner product with an item's embedding is
            the item's score as the next.
        """
        ...

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write ``encoder.onnx``, which takes the item embeddings from a file beside it.

        Args:
            directory: Where to write.
            embeddings: The name of the ``.npy`` file of the item embeddings.

        Returns:
            What the manifest says of the graph.
        """
        ...
