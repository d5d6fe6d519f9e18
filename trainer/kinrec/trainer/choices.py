"""Chooses what a configuration leaves open, by the log that is to be learned."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from kinrec.trainer.config import AUTO
from kinrec.trainer.errors import ConfigError
from kinrec.trainer.windows import choose_batch_events

if TYPE_CHECKING:
    from kinrec.engine.histories import Histories
    from kinrec.trainer.config import TrainConfig

# A fit has 20 epochs: more of a small log, for so many steps, and fewer of a large one, whose epochs
# have so many that on amazon-games 12 were as good in the blend as 20.
EPOCHS = (8, 20, 60)
STEPS = (2_000, 12_000)
# The peak of the learning rate times the steps, and its bounds: a short fit has to go faster.
RATE_STEPS = 4.0
RATES = (1e-3, 2e-3)
# Events for each item, and the dropout of its embedding there: what validated best on
# amazon-beauty and retailrocket, and on movielens-100k.
ITEM_DROPOUTS = ((20.0, 0.7), (60.0, 0.3))


def choose_device(name: str) -> torch.device:
    """Find the device of a name.

    Raises:
        ConfigError: It is cuda, and there is none.
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", name, "there is none on this machine; auto and cpu are left")
    return torch.device(name)


def with_choices(
    config: TrainConfig, histories: Histories, items: int, epochs: int = 0
) -> TrainConfig:
    """Fill in the settings of a configuration that the log decides.

    The dropout of the last item is the greater the fewer events the log has for each item,
    log-linearly between two densities.

    Args:
        config: The configuration.
        histories: What is learned from.
        items: The number of items.
        epochs: The epochs of the schedule; 0 leaves them to the configuration or the size.
    """
    sessions = histories.sessions(config.cleaning.session_gap)
    item_dropout = config.item_dropout
    if item_dropout is None:
        density = len(histories.items) / items
        (sparse, most), (dense, least) = ITEM_DROPOUTS
        item_dropout = float(np.interp(math.log(density), np.log([sparse, dense]), [most, least]))
    batch_events = config.batch_events or choose_batch_events(sessions.lengths, config.window)
    steps = max(1.0, float(np.maximum(sessions.lengths - 1, 0).sum()) / batch_events)
    epochs = epochs or config.epochs or choose_epochs(steps)
    return replace(
        config,
        item_dropout=item_dropout,
        batch_events=batch_events,
        epochs=epochs,
        learning_rate=config.learning_rate or _bounded(RATE_STEPS / (epochs * steps), RATES),
    )


def choose_epochs(steps: float) -> int:
    """Choose how many epochs of so many steps a fit has."""
    fewest, usual, most = EPOCHS
    few, many = STEPS
    least = _bounded(many / steps, (fewest, usual))
    return math.ceil(_bounded(few / steps, (least, most)))


def _bounded(value: float, bounds: tuple[float, float]) -> float:
    least, most = bounds
    return min(max(value, least), most)
