"""What a fit lowers: the surprise at the true next item among others.

It is a softmax over the true next item and items sampled by frequency, with the logits corrected for how
often an item is sampled (Bengio & Senécal, "Adaptive Importance Sampling to Accelerate Training of a
Neural Probabilistic Language Model", 2008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kinrec.trainer.encoders import SequenceEncoder

NO_TARGET = -1
ROUND = 64


class NegativeSampler:
    """The next-item loss: over all items if they are few, else over a sample."""

    def __init__(
        self, events: NDArray[np.int32], items: int, negatives: int, device: torch.device
    ) -> None:
        frequency = np.bincount(events, minlength=items) + 1.0
        shares = frequency / frequency.sum()
        self._items = items
        self._negatives = negatives if items > negatives else 0
        self._cumulative = np.cumsum(shares)
        self._device = device
        self._log_shares = torch.from_numpy(np.log(shares).astype(np.float32)).to(device)

    def loss(
        self,
        encoder: SequenceEncoder,
        vectors: torch.Tensor,
        targets: torch.Tensor,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """Give the mean cross-entropy of ``targets`` (n,) under ``vectors`` (n, dim).

        A target of ``NO_TARGET`` does not count.
        """
        if not self._negatives:
            logits = vectors @ encoder.item_embedding.weight.T
            return functional.cross_entropy(logits, targets, ignore_index=NO_TARGET)
        classes = targets.clamp(max=0)  # the true one is the first
        targets = targets.clamp(min=0)
        drawn = np.searchsorted(self._cumulative, rng.random(self._negatives))
        sampled = torch.from_numpy(np.minimum(drawn, self._items - 1)).to(self._device)
        true = (vectors * encoder.item_embedding(targets)).sum(-1) - self._log_shares[targets]
        others = vectors @ encoder.item_embedding(sampled).T - self._log_shares[sampled]
        others = others.masked_fill(targets[:, None] == sampled[None, :], -1e9)
        logits = torch.cat([true[:, None], others], dim=1)  # (events, 1 + negatives)
        return functional.cross_entropy(logits, classes, ignore_index=NO_TARGET)


def rows_of(mask: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the places of a batch where there is a target, and the targets, in a round number.

    For products of every new size oneDNN compiles and keeps a program: with hundreds of sizes that
    takes gigabytes.

    Args:
        mask: bool, (batch, time).
        targets: int64, (batch, time).
    """
    places = mask.flatten().nonzero()[:, 0]
    missing = -len(places) % ROUND
    wanted = functional.pad(targets.flatten()[places], (0, missing), value=NO_TARGET)
    return functional.pad(places, (0, missing)), wanted
