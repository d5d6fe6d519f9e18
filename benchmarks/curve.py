"""NDCG@10 on the test events against minutes of training, of kinrec's encoder alone.

Leave-one-out as in docs/results.md: trained without everyone's last two events, asked for the last. A
figure to set beside that of another library, which `benchmarks/sasrec.py` prints for RecTools' SASRec.
Nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from kinrec.trainer import fit as fitting
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.fit import Epoch, Fit, Task
from kinrec.trainer.splits import Targets, select
from kinrec.trainer.training import Inputs, load_log

if TYPE_CHECKING:
    from kinrec.engine.histories import Histories


class Clock:
    """Counts the CPU seconds of the steps and prints after each epoch; a Monitor."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._since = time.process_time()

    def __enter__(self) -> Self:
        """See Monitor."""
        return self

    def __exit__(self, *_error: object) -> None:
        """See Monitor."""

    def step(self) -> None:
        """See Monitor."""
        now = time.process_time()
        self._spent += now - self._since
        self._since = now

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """See Monitor."""
        print(
            f"{epoch.number}/{epochs}  {self._spent / 60:.2f} min  NDCG@10 {epoch.ndcg_at_10:.4f}"
        )
        self._since = time.process_time()  # what was measured is not training


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("events", type=Path, help="a file of events")
    config = TrainConfig(patience=10_000)
    log = load_log(Inputs([parser.parse_args().events]), config)
    fitting.VALIDATION_USERS = len(log.users)
    training_part, targets = _leave_one_out(log.histories)
    task = Task(training_part, len(log.items), len(log.event_types) + 1, targets)
    started = time.process_time()
    fit = Fit(task, config)
    print(f"start  {(time.process_time() - started) / 60:.2f} min")
    fit.run(Clock(), lambda _state: None)


def _leave_one_out(histories: Histories) -> tuple[Histories, Targets]:
    """Train on all but the last two events of who has three; ask all but the last for the last."""
    asked = np.flatnonzero(histories.lengths >= 3)
    held_out = np.where(histories.lengths >= 3, 2, 0)
    queries = histories.without_last((held_out > 0).astype(np.int64))
    last = histories.items[histories.offsets[asked + 1] - 1].astype(np.int64)
    targets = Targets(asked, last, select(queries, asked))
    return histories.without_last(held_out), targets


if __name__ == "__main__":
    main()
