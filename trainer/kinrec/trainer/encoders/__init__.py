"""Sequence encoders: what turns a behaviour sequence into an interest vector.

Importing this does not import torch: the module of an encoder is imported when it is asked for.
"""

from collections.abc import Callable

from kinrec.trainer.encoders._base import EncoderSizes, SequenceEncoder, visible_events
from kinrec.trainer.plugins import Plugins

ENCODERS: Plugins[Callable[[EncoderSizes], SequenceEncoder]] = Plugins(
    "encoder",
    "kinrec.encoders",
    {
        "lstm": "kinrec.trainer.encoders.lstm:LstmEncoder",
        "gru": "kinrec.trainer.encoders.gru:GruEncoder",
        "transformer": "kinrec.trainer.encoders.transformer:TransformerEncoder",
    },
)

__all__ = ["ENCODERS", "EncoderSizes", "SequenceEncoder", "visible_events"]
