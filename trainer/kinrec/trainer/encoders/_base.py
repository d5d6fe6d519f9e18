"""What an encoder is: the part that turns a behaviour sequence into interest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from kinrec.bundle.v1 import manifest_pb2


@dataclass(frozen=True, slots=True)
class EncoderSizes:
    """The sizes that an encoder is built for.

    Attributes:
        items: Number of items.
        event_types: Number of event type codes, the unspecified one included.
        vector_size: Length of an item embedding and of an interest vector.
        hidden_size: Length of the recurrent state, or of what else lies between the layers.
        dropout: Share of the inputs and outputs zeroed in training, 0 to below 1.
        item_dropout: The same of the last item's embedding where a residual carries it to the output.
        window: Events per training sequence: an encoder learns from none that is longer.
    """

    items: int
    event_types: int
    vector_size: int
    hidden_size: int
    dropout: float
    item_dropout: float
    window: int


class SequenceEncoder(Protocol):
    """A torch module whose item embeddings are both its input and its output side.

    What the trainer uses of ``torch.nn.Module`` stands at the end.

    Attributes:
        kind: The name by which a configuration asks for it.
        max_length: The number of most recent events that it takes: 0 for any number, else at least
            ``EncoderSizes.window``.
        item_embedding: (items, vector_size).
        training: Whether dropout is on.
    """

    kind: str
    max_length: int
    item_embedding: nn.Embedding
    training: bool

    def vectors(self, items: Tensor, event_types: Tensor, gaps: Tensor) -> Tensor:
        """Give the interest vector after each event.

        Args:
            items: int64, (batch, time), time at most ``max_length``; any item at padded places,
                which come last.
            event_types: int64, (batch, time).
            gaps: int64, (batch, time), as from ``kinrec.engine.events.gap_codes``.

        Returns:
            float32, (batch, time, vector_size). Its inner product with an item's embedding is
            the item's score as the next. No vector depends on what comes after it, nor on the
            other members of the batch.
        """
        ...

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write ``encoder.onnx``, which takes the item embeddings from a file beside it.

        The first output is ``vectors``, (batch, vector_size), after the last event of each sequence.
        For every input that is a state an output of the same shape follows, in the same order: the
        state after the last event. It begins at zero, and whoever goes on from it must get the same
        bits however the events were cut and whatever else is in the batch. Such an encoder takes any
        number of events.

        Args:
            directory: Where to write.
            embeddings: The name of the ``.npy`` file of the item embeddings.

        Returns:
            What the manifest says of the graph.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Give what is fitted."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Give the module and all inside it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Give every weight by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Take every weight from ``state_dict``."""
        ...

    def to(self, device: torch.device) -> object:
        """Move every weight to a device."""
        ...

    def train(self) -> object:
        """Turn dropout on."""
        ...

    def eval(self) -> object:
        """Turn dropout off."""
        ...


def visible_events(encoder: SequenceEncoder, limit: int) -> int:
    """Give how many of the last ``limit`` events an encoder takes."""
    return min(limit, encoder.max_length or limit)
