"""What the trainer's tests share: histories written by hand, and a log whose next item is certain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import narwhals as nw
import numpy as np
import polars as pl
import pytest

from kinrec.engine.histories import Histories
from kinrec.engine.ids import IdMap
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kinrec.trainer.fit import Epoch


def histories_of(
    rows: Sequence[Sequence[int]],
    types: Sequence[Sequence[int]] | None = None,
    times: Sequence[Sequence[float]] | None = None,
) -> Histories:
    """Make histories of item numbers; events are an hour apart and of no type unless said."""
    items = [item for row in rows for item in row]
    hours = [3600.0 * place for row in rows for place in range(len(row))]
    return Histories(
        np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64),
        np.array(items, np.int32),
        np.array([kind for row in types for kind in row] if types else [0] * len(items), np.uint8),
        np.array([time for row in times for time in row] if times else hours, np.float64),
    )


@pytest.fixture
def make_histories() -> Callable[..., Histories]:
    """The function `histories_of`."""
    return histories_of


_EVENTS = {
    "user_id": pl.String,
    "item_id": pl.String,
    "event_type": pl.String,
    "timestamp": pl.Float64,
    "value": pl.Float64,
    "input_order": pl.Int64,
}


def frame_of(*events: tuple[object, ...]) -> nw.LazyFrame[pl.LazyFrame]:
    """Make a frame of (user, item[, type[, time[, value]]]); the time is the place if not given."""
    rows = []
    for place, event in enumerate(events):
        defaults = (None, None, None, float(place), None)
        rows.append((*event, *defaults[len(event) :], place))
    return nw.from_native(pl.LazyFrame(rows, schema=_EVENTS, orient="row"))


@pytest.fixture(name="frame_of", scope="session")
def _frame_of() -> Callable[..., nw.LazyFrame[pl.LazyFrame]]:
    """The function `frame_of`."""
    return frame_of


@pytest.fixture(scope="session")
def places() -> Callable[[nw.LazyFrame[pl.LazyFrame]], list[int]]:
    """Gives the places in the input of the rows of a frame."""
    return lambda frame: sorted(frame.collect()["input_order"].to_list())


@dataclass
class Watcher:
    """A monitor, and the reporter that gives it, which note what they are told."""

    steps: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def step(self) -> None:
        """Count."""
        self.steps += 1

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Note an epoch."""
        assert epoch.number <= epochs
        self.epochs.append(epoch)

    def stage(self, text: str) -> None:
        """Note a stage."""
        self.stages.append(text)

    def log_ready(self, log: EventLog) -> None:
        """Look at the log."""
        assert len(log.users)

    def fit(self, title: str, steps: int, done: int) -> Self:
        """Note a fit, and watch it."""
        self.stages.append(title)
        assert done <= steps
        return self


@pytest.fixture
def watcher() -> Watcher:
    """A monitor and reporter that notes what it is told."""
    return Watcher()


@pytest.fixture
def tiny_config() -> TrainConfig:
    """The settings of a training that takes a moment."""
    return TrainConfig(
        vector_size=16,
        hidden_size=16,
        dropout=0.1,
        window=10,
        batch_events=128,
        epochs=12,
        learning_rate=0.02,
        factors=8,
    )


@pytest.fixture
def ring() -> Histories:
    """60 people who walk from item to next item around a ring of 16, 10 steps from anywhere."""
    starts = np.random.default_rng(3).integers(0, 16, 60)
    return histories_of([[(start + step) % 16 for step in range(10)] for start in starts])


@pytest.fixture
def ring_log(ring: Histories) -> EventLog:
    """The ring with ids, types and titles."""
    return EventLog(
        users=IdMap.build(f"u{number}" for number in range(60)),
        items=IdMap.build(f"i{number}" for number in range(16)),
        event_types=(),
        histories=ring,
        cleaning=(),
        titles=[f"Title {number}" for number in range(16)],
    )
