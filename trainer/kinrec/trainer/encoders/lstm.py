"""An LSTM over item, event type and time gap, with a residual from the last item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from kinrec.trainer.encoders._recurrent import RecurrentEncoder
from kinrec.trainer.encoders._recurrent_onnx import export_recurrent

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders._base import EncoderSizes

# Torch's order is input, forget, cell, output; ONNX's is input, output, forget, cell.
_GATES = (0, 3, 1, 2)


class LstmEncoder(RecurrentEncoder):
    """Carries the states h and c."""

    kind = "lstm"

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes, nn.LSTM)

    def export(self, directory: Path, embeddings: str) -> manifest_pb2.Encoder:
        """Write ``encoder.onnx``; see SequenceEncoder."""
        return export_recurrent(
            self, directory, embeddings, operator="LSTM", gates=_GATES, states="hc"
        )
