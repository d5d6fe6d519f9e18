"""Runs the trained encoder in torch. Importing this imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kinrec.trainer.encoders import visible_events
from kinrec.trainer.splits import select
from kinrec.trainer.weights import load_encoder
from kinrec.trainer.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine.histories import Histories


class TorchEncoder:
    """The encoder that a bundle's graph was made from.

    Raises:
        WeightsError: It cannot be built from the bundle.
        ConfigError: It is of a package that is not installed.
    """

    def __init__(self, bundle: Path, manifest: Manifest) -> None:
        self._encoder = load_encoder(bundle, manifest)
        self._limit = visible_events(self._encoder, manifest.event_spec.max_history)
        self._vector_size = manifest.encoder.vector_size

    def run(
        self, histories: Histories, batches: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Encode histories of at least one event, batch by batch: (histories, vector_size)."""
        vectors = np.zeros((len(histories), self._vector_size), np.float32)
        for batch in batches:
            everyone = np.arange(len(batch))
            ends = Windows.ends(select(histories, batch), everyone, self._limit)
            for chosen, (items, types, gaps, last) in ends:
                with torch.no_grad():
                    found = self._encoder.vectors(items, types, gaps)
                vectors[batch[chosen]] = found[torch.arange(len(last)), last].numpy()
        return vectors
