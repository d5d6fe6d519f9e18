"""Exports an encoder and checks that the exported one gives what the trained one gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine.encoder import Encoder as ExportedEncoder
from kinrec.trainer.encoders import visible_events
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.windows import Windows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories
    from kinrec.trainer.encoders import SequenceEncoder

EMBEDDINGS = "item_embeddings.npy"
# Of the greatest number of the vectors, or of 1 if that is greater: rounding of sums over a long history
# grows with it, and on a log of three million events reached a hundred-thousandth. A graph that computes
# something else is further off.
TOLERANCE = 2e-5
PARITY_SEQUENCES = 256
ENCODE_BATCH = 64


class ParityError(TrainerError):
    """The exported encoder differs from the trained one by more than the tolerance."""


def export_encoder(
    encoder: SequenceEncoder, directory: Path
) -> tuple[ExportedEncoder, manifest_pb2.Encoder]:
    """Write the encoder and its item embeddings, and open it as the engine does."""
    weights = encoder.item_embedding.weight.detach().numpy()
    np.save(directory / EMBEDDINGS, np.ascontiguousarray(weights, np.float32))
    spec = encoder.export(directory, EMBEDDINGS)
    return ExportedEncoder(directory / "encoder.onnx", spec), spec


def check_parity(
    encoder: SequenceEncoder, exported: ExportedEncoder, histories: Histories, limit: int
) -> manifest_pb2.Parity:
    """Compare the two encoders on ragged batches of real histories.

    Raises:
        ParityError: They differ by more than ``TOLERANCE``.
    """
    users = np.flatnonzero(histories.lengths > 0)[:PARITY_SEQUENCES]
    greatest, largest = 0.0, 1.0
    with torch.no_grad():
        encoder.eval()
        visible = visible_events(encoder, limit)
        for chosen, (items, types, gaps, last) in Windows.ends(histories, users, visible):
            expected = encoder.vectors(items, types, gaps)[torch.arange(len(last)), last].numpy()
            batch = [histories.user(user, limit) for user in users[chosen].tolist()]
            difference = np.abs(exported.run(batch) - expected)
            # Unlike max, this keeps not-a-number.
            greatest = float(np.maximum(greatest, np.max(difference)))
            largest = max(largest, float(np.abs(expected).max()))
    tolerance = TOLERANCE * largest
    if not greatest <= tolerance:
        raise ParityError(
            f"the exported encoder differs from the trained one by {greatest:.2e}, "
            f"at most {tolerance:.0e} is allowed"
        )
    return manifest_pb2.Parity(max_abs_diff=greatest, tolerance=tolerance, sequences=len(users))


def encode_all(
    exported: ExportedEncoder, histories: Histories, limit: int, vector_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Give the interest vector of every user and where the encoder stands then.

    Returns:
        (users, vector_size), and the states end to end (users, numbers), None if it carries none;
        zeros without events.
    """
    vectors = np.zeros((len(histories), vector_size), np.float32)
    states = np.zeros((len(histories), exported.state_length), np.float32)
    users = np.flatnonzero(histories.lengths > 0)
    users = users[np.argsort(histories.lengths[users], kind="stable")]
    for start in range(0, len(users), ENCODE_BATCH):
        batch = users[start : start + ENCODE_BATCH].tolist()
        people = [histories.user(user, limit) for user in batch]
        for user, encoded in zip(
            batch, exported.run_from(people, [None] * len(batch)), strict=True
        ):
            vectors[user] = encoded.vector
            states[user] = encoded.states
    return vectors, states if exported.state_length else None
