"""Sequence encoders: what turns a behaviour sequence into an interest vector.

Importing this does not import torch: the module of an encoder is imported when it is asked for.
"""

from kinrec.trainer.encoders._base import EncoderSizes, SequenceEncoder, visible_events
from kinrec.trainer.encoders._registry import (
    ENTRY_POINTS,
    check_installed,
    encoder_names,
    load_encoder,
)

__all__ = [
    "ENTRY_POINTS",
    "EncoderSizes",
    "SequenceEncoder",
    "check_installed",
    "encoder_names",
    "load_encoder",
    "visible_events",
]
