"""Sequence encoders: what turns a behaviour sequence into an interest vector."""

from kinrec.trainer.encoders._base import Encoder, EncoderSizes
from kinrec.trainer.encoders.lstm import LstmEncoder

__all__ = ["Encoder", "EncoderSizes", "LstmEncoder"]
