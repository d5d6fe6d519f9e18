"""Fits an encoder to predict the next item, and finds for how many epochs.

The loss stands in ``loss``, what the log decides in ``choices``. Learning starts from item vectors
in which what occurs together is near (``cooccurrence_vectors``). The learning rate follows one cycle
(Smith & Topin, "Super-Convergence", 2018). What is measured and kept is a running mean of the weights
(Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992).
"""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch

from kinrec.trainer.choices import choose_device, with_choices
from kinrec.trainer.encoders import ENCODERS, EncoderSizes, visible_events
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.loss import NegativeSampler, rows_of
from kinrec.trainer.metrics import ndcg, ranks_of
from kinrec.trainer.statistics import cooccurrence_vectors
from kinrec.trainer.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from kinrec.engine.histories import Histories
    from kinrec.trainer.config import TrainConfig
    from kinrec.trainer.encoders import SequenceEncoder
    from kinrec.trainer.splits import Targets

VALIDATION_USERS = 10_000
GRADIENT_NORM = 5.0
START_STD = 0.05  # of the item vectors that learning starts from
RISE = 0.3  # the share of the steps in which the learning rate rises
# The running mean reaches back a tenth of the steps so far, and no further than so many.
MEAN_STEPS = 1_000


class NonFiniteLossError(TrainerError):
    """The loss was no longer a number; the last checkpoint is from before."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The measures of one epoch.

    Attributes:
        number: From 1.
        loss: The mean training loss.
        ndcg_at_10: Of the encoder alone on held-out events; NaN where none are held out.
        learning_rate: At the end of the epoch.
    """

    number: int
    loss: float
    ndcg_at_10: float
    learning_rate: float


class Monitor(Protocol):
    """Sees a fit go on, inside a ``with`` block."""

    def __enter__(self) -> Self:
        """The fit begins."""

    def __exit__(self, *error: object) -> None:
        """The fit is over, well or not."""

    def step(self) -> None:
        """One step is done."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """One epoch of at most ``epochs`` is done."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to fit on.

    Attributes:
        histories: The training part.
        items: Number of items.
        event_types: Number of event type codes.
        targets: What to validate on; None to run every epoch.
        epochs: The epochs of the schedule; 0 chooses by size.
        stop_after: The epoch after which to stop whatever is measured; 0 for the last.
    """

    histories: Histories
    items: int
    event_types: int
    targets: Targets | None
    epochs: int = 0
    stop_after: int = 0


FitState = dict[str, Any]


class Fit:
    """One run over a task: step through ``run``, then read ``encoder``."""

    def __init__(self, task: Task, config: TrainConfig) -> None:
        config = with_choices(config, task.histories, task.items, task.epochs)
        self.config = config
        self.history: list[Epoch] = []
        self._task = task
        gap = config.cleaning.session_gap
        self._windows = Windows(task.histories.sessions(gap), config.window, config.batch_events)
        self.epochs = config.epochs
        self.steps_per_epoch = self._windows.steps
        torch.manual_seed(config.seed)
        self._device = choose_device(config.device)
        self.encoder = ENCODERS.load(config.encoder)(
            EncoderSizes(
                items=task.items,
                event_types=task.event_types,
                vector_size=config.vector_size,
                hidden_size=config.hidden_size,
                dropout=config.dropout,
                item_dropout=config.item_dropout or 0.0,
                window=config.window,
            )
        )
        self._start_from_pairs()
        self.encoder.to(self._device)
        self._mean = copy.deepcopy(self.encoder)
        for layer in self._mean.modules():
            if isinstance(layer, torch.nn.RNNBase):
                layer.flatten_parameters()  # a copy's are not in one piece, as a GPU wants them
        rate = config.learning_rate
        if rate is None:
            raise ValueError("with_choices leaves no learning rate open")
        self._optimizer = torch.optim.AdamW(
            self.encoder.parameters(),
            lr=rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            rate,
            total_steps=self.epochs * self.steps_per_epoch + 1,
            pct_start=RISE,
        )
        self._sampler = NegativeSampler(
            task.histories.items, task.items, config.negatives, self._device
        )
        self._best: dict[str, torch.Tensor] = _copy(self._mean)
        self._targets = (
            None if task.targets is None else task.targets.sample(VALIDATION_USERS, config.seed)
        )

    @property
    def best_epoch(self) -> int:
        """The epoch with the greatest NDCG@10; the last if nothing is held out."""
        if self._targets is None or not self.history:
            return len(self.history)
        return max(self.history, key=lambda epoch: (epoch.ndcg_at_10, -epoch.number)).number

    @property
    def planned_epochs(self) -> int:
        """The epochs that run unless the search ends early."""
        return self._task.stop_after or self.epochs

    @property
    def is_done(self) -> bool:
        """Whether no further epoch is to be run."""
        done = len(self.history)
        if done >= self.planned_epochs:
            return True
        # While the learning rate still rises, no progress yet says nothing.
        rising = math.ceil(RISE * self.epochs)
        waited = done - max(self.best_epoch, rising)
        return self._targets is not None and waited >= self.config.patience

    def run(self, monitor: Monitor, save: Callable[[FitState], None]) -> SequenceEncoder:
        """Run the epochs that are left, with ``save`` after each, and give the best encoder."""
        while not self.is_done:
            loss = self._epoch(len(self.history), monitor)
            quality = self.validate() if self._targets is not None else math.nan
            epoch = Epoch(
                len(self.history) + 1, loss, quality, float(self._schedule.get_last_lr()[0])
            )
            self.history.append(epoch)
            if self.best_epoch == epoch.number:
                self._best = _copy(self._mean)
            save(self.state())
            monitor.epoch(epoch, self.planned_epochs)
        self.encoder.load_state_dict(self._best)
        self.encoder.to(torch.device("cpu"))
        self.encoder.eval()
        return self.encoder

    def state(self) -> FitState:
        """Give all that a resumed run needs, in types that load without pickle."""
        return {
            "model": self.encoder.state_dict(),
            "mean": self._mean.state_dict(),
            "best": self._best,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "history": [
                (epoch.number, epoch.loss, epoch.ndcg_at_10, epoch.learning_rate)
                for epoch in self.history
            ],
        }

    def restore(self, state: FitState) -> None:
        """Go on where ``state`` was taken."""
        self.encoder.load_state_dict(state["model"])
        self._mean.load_state_dict(state["mean"])
        self._best = state["best"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.history = [Epoch(*values) for values in state["history"]]

    def _start_from_pairs(self) -> None:
        """Let the item embeddings start where items that occur together are near."""
        weight = self.encoder.item_embedding.weight
        found = cooccurrence_vectors(
            self._task.histories.sessions(self.config.cleaning.session_gap),
            self._task.items,
            self.config.vector_size,
            self.config.transition_window,
            self.config.seed,
        )
        with torch.no_grad():
            weight.add_(torch.from_numpy(found), alpha=START_STD)

    def _epoch(self, number: int, monitor: Monitor) -> float:
        # Seeded by epoch, so that a resumed run draws what an unbroken one would.
        torch.manual_seed(self.config.seed * 1_000_003 + number)
        rng = np.random.default_rng([self.config.seed, number])
        self.encoder.train()
        total = 0.0
        done = number * self.steps_per_epoch
        with _quick_products():
            for step, batch in enumerate(self._windows.batches(rng), start=done):
                items, types, gaps, targets, mask = (part.to(self._device) for part in batch)
                vectors = self.encoder.vectors(items, types, gaps)  # (batch, time, dim)
                rows, wanted = rows_of(mask, targets)
                loss = self._sampler.loss(self.encoder, vectors.flatten(0, 1)[rows], wanted, rng)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise NonFiniteLossError(
                        f"the loss became {value} in epoch {number + 1}; "
                        "a lower learning_rate usually helps"
                    )
                self._optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
                torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), GRADIENT_NORM)
                self._optimizer.step()
                self._schedule.step()
                self._update_mean(step)
                total += value
                monitor.step()
        return total / self.steps_per_epoch

    @torch.no_grad()
    def _update_mean(self, step: int) -> None:
        share = max(1.0 / MEAN_STEPS, 9.0 / (step + 10.0))
        current = self.encoder.state_dict()
        for name, mean in self._mean.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], share)
            else:
                mean.copy_(current[name])

    @torch.no_grad()
    def validate(self) -> float:
        """Measure NDCG@10 of the encoder alone over all items.

        Seen items are left out or not, whichever ranks better: as in the blend, people decide it who
        return to items or do not.
        """
        if self._targets is None:
            raise ValueError("nothing is held out")
        self._mean.eval()
        embeddings = self._mean.item_embedding.weight.cpu().numpy()
        targets = self._targets
        with_seen, without = [], []
        for chosen, vectors in self._last_vectors(targets.queries):
            seen = [targets.queries.user(person).items for person in chosen.tolist()]
            scores = vectors @ embeddings.T
            with_seen.append(ranks_of(scores, targets.items[chosen], []))
            without.append(ranks_of(scores, targets.items[chosen], seen))
        return max(float(ndcg(np.concatenate(ranks), 10).mean()) for ranks in (with_seen, without))

    def _last_vectors(
        self, histories: Histories
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Give the numbers of some histories and the vectors after the last event of each."""
        limit = visible_events(self._mean, 4 * self.config.window)
        sessions = histories.last_sessions(self.config.cleaning.session_gap)
        windows = Windows.ends(sessions, np.arange(len(sessions)), limit)
        for chosen, (items, types, gaps, last) in windows:
            inputs = (part.to(self._device) for part in (items, types, gaps))
            vectors = self._mean.vectors(*inputs)[torch.arange(len(last)), last]
            yield chosen, vectors.cpu().numpy()


@contextlib.contextmanager
def _quick_products() -> Iterator[None]:
    """Let products of matrices be computed by what is quickest.

    On a CPU torch then leaves them to oneDNN, which on one with AVX-512 and no AMX takes half the time
    for the same precision; with AMX, as on a GPU, products are rounded to fewer bits before they are
    added up.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _copy(encoder: SequenceEncoder) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
