"""A GRU over item, event type and time gap, with a residual from the last item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from kinrec.trainer.encoders._recurrent import RecurrentEncoder
from kinrec.trainer.encoders._recurrent_onnx import export_recurrent

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders._base import EncoderSizes

# Torch's order is reset, update, new; ONNX's is update, reset, new.
_GATES = (1, 0, 2)


class GruEncoder(RecurrentEncoder):
    """Carries the state h."""

    kind = "gru"

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes, nn.GRU)

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write ``encoder.onnx``; see SequenceEncoder."""
        return export_recurrent(
            self,
            directory,
            embeddings,
            operator="GRU",
            gates=_GATES,
            states="h",
            # Torch applies the reset gate after the product with the weights, not before.
            linear_before_reset=1,
        )
