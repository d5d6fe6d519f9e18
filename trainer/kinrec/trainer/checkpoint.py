"""Keeps an unfinished training on disk, so that it can go on after it was stopped."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from typing import TYPE_CHECKING, cast

import torch

from kinrec.trainer.errors import OutputError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.trainer.config import TrainConfig
    from kinrec.trainer.fit import FitState
    from kinrec.trainer.log import EventLog


_DIRECTORY = ".training"  # in the store

# What torch.load raises for a file that is cut short or is none of its own.
_UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, struct.error, pickle.UnpicklingError)

# Settings of what is made from a fitted encoder: a fit can be kept when they change.
AFTER_THE_FIT = frozenset(
    {
        "factorizer",
        "factors",
        "alpha",
        "half_life",
        "factorizer_iterations",
        "regularization",
        "transition_window",
        "neighbours",
        "candidates",
        "min_recall",
    }
)


def is_left(store: Path) -> bool:
    """Whether there is a training in a store that can go on."""
    return any((store / _DIRECTORY).glob("*.pt"))


class Checkpoints:
    """The states of the fits of one training, in a file named by the log and the configuration of the fit.

    Another log or configuration has another file, so a training never goes on from a stranger's.
    """

    def __init__(self, store: Path, log: EventLog, config: TrainConfig) -> None:
        self._directory = store / _DIRECTORY
        self._path = self._directory / f"{fingerprint(log, config)}.pt"
        self._states: dict[str, FitState] = {}

    def load(self) -> bool:
        """Read what an earlier run left; False if there is nothing.

        Raises:
            OutputError: It is damaged.
        """
        if not self._path.is_file():
            return False
        try:
            self._states = cast(
                "dict[str, FitState]", torch.load(self._path, map_location="cpu", weights_only=True)
            )
        except _UNREADABLE as error:
            raise OutputError(
                self._path, "is damaged; without --resume training starts anew"
            ) from error
        return True

    @property
    def others(self) -> bool:
        """Whether a training of another log or configuration left something."""
        return any(path != self._path for path in self._directory.glob("*.pt"))

    def get(self, phase: str) -> FitState | None:
        """Give the state of one fit."""
        return self._states.get(phase)

    def save(self, phase: str, state: FitState) -> None:
        """Replace the state of one fit, in one step: a failure leaves what was saved before.

        Raises:
            OutputError: The store cannot be written, or is full.
        """
        self._states[phase] = state
        partial = self._path.with_suffix(".partial")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            torch.save(self._states, partial)
            partial.replace(self._path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise OutputError(
                self._directory, f"the checkpoint cannot be written: {reason_of(error)}"
            ) from error

    def clear(self) -> None:
        """Delete the file: the training is finished."""
        self._path.unlink(missing_ok=True)
        if self._directory.is_dir() and not any(self._directory.iterdir()):
            self._directory.rmdir()


def fingerprint(log: EventLog, config: TrainConfig) -> str:
    """Give a short name that changes with the log and with every setting that a fit depends on."""
    settings = {key: value for key, value in config.as_dict().items() if key not in AFTER_THE_FIT}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    histories = log.histories
    for array in (histories.offsets, histories.items, histories.event_types, histories.times):
        digest.update(array.tobytes())
    digest.update("\0".join(log.items.key(number) for number in range(len(log.items))).encode())
    return digest.hexdigest()[:16]
