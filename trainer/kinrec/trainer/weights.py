"""Keeps the weights of a trained encoder beside its graph, and builds the encoder from them again.

The engine does not read them. They are what the graph is compared with long after the training, on
another machine or with another version of a library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import torch
from google.protobuf import json_format

from kinrec.trainer.encoders import ENCODERS, EncoderSizes
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.export import EMBEDDINGS

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.bundle.v1 import manifest_pb2
    from kinrec.trainer.encoders import SequenceEncoder

WEIGHTS = "encoder_weights.npz"
_IN_THEIR_OWN_FILE = "item_embedding.weight"


class WeightsError(TrainerError):
    """The trained encoder cannot be built from a bundle. The text is one line that says why."""


def save_weights(encoder: SequenceEncoder, directory: Path) -> None:
    """Write every weight by name but the item embeddings, which have a file of their own.

    Nothing is written of an encoder whose ``state_dict`` holds what is no numpy array: an encoder of
    another package may.
    """
    try:
        weights = {
            name: weight.detach().cpu().numpy()
            for name, weight in encoder.state_dict().items()
            if name != _IN_THEIR_OWN_FILE
        }
    except (AttributeError, TypeError):
        return
    np.savez(directory / WEIGHTS, **weights)


def load_encoder(bundle: Path, manifest: manifest_pb2.Manifest) -> SequenceEncoder:
    """Build the trained encoder of a bundle, without dropout.

    Raises:
        WeightsError: The bundle holds no weights, or they fit no encoder that is installed.
        ConfigError: The encoder is of a package that is not installed.
    """
    config = json_format.MessageToDict(manifest.training_config)
    if WEIGHTS not in manifest.files:
        raise WeightsError(f"the bundle holds no {WEIGHTS}")
    make = ENCODERS.load(config["encoder"])
    sizes = EncoderSizes(
        items=manifest.item_count,
        event_types=len(manifest.event_spec.event_types) + 1,
        vector_size=manifest.encoder.vector_size,
        hidden_size=int(config["hidden_size"]),
        dropout=0.0,
        item_dropout=0.0,
        window=int(config["window"]),
    )
    try:
        with np.load(bundle / WEIGHTS, allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        weights[_IN_THEIR_OWN_FILE] = torch.from_numpy(np.load(bundle / EMBEDDINGS))
        encoder = make(sizes)
        encoder.load_state_dict(weights)
    except (OSError, ValueError, TypeError, RuntimeError, BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{WEIGHTS} does not fit the encoder: {reason}") from error
    encoder.eval()
    return encoder
