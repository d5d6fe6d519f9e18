"""The command ``kinrec tune``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

from kinrec.trainer.commands import _log
from kinrec.trainer.commands._process import set_up
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import ConfigError, TrainerError
from kinrec.trainer.progress import ConsoleReporter
from kinrec.trainer.settings import (
    PATH,
    WHOLE,
    Setting,
    add_groups,
    read_settings,
    settings_of,
    train_config,
)

if TYPE_CHECKING:
    import argparse

MOST_TRIALS = 100_000
OF_TRAIN = ("out", "resume")
"""What only the file of a training has, which can be given here as it is."""

_FILES = [
    *_log.FILES,
    Setting("best", PATH, "The file that gets the best settings, in TOML. Required."),
    Setting(
        "study", PATH, "The file that keeps the trials, so that a run goes on with it. Required."
    ),
    Setting(
        "trials", WHOLE, "How many settings are tried, those of earlier runs included.", default=30
    ),
]
_GROUPS = (
    ("files and trials", None, _FILES),
    *_log.GROUPS,
    ("settings", "where the trials start, and what they leave as it is", settings_of(TrainConfig)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_groups(parser, _GROUPS)


def run(args: argparse.Namespace) -> int:
    """Try settings and say which did best."""
    set_up()
    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    try:
        values = read_settings(args.config, args, _GROUPS, ignored=OF_TRAIN)
        config = train_config(values)
        _log.require(values, "events", "best", "study")
        if not 1 <= values["trials"] <= MOST_TRIALS:
            rule = f"must be from 1 to {MOST_TRIALS:,}"
            raise ConfigError("trials", values["trials"], rule)
        inputs = _log.read_inputs(values)
        from kinrec.trainer.tuning import Tuning, tune  # noqa: PLC0415 - imports torch, which takes seconds

        columns = _log.changed_columns(values)
        tuning = Tuning(values["study"], values["best"], values["trials"], columns)
        best = tune(inputs, config, tuning, ConsoleReporter(console))
    except TrainerError as error:
        sys.stderr.write(f"kinrec tune: {error}\n")
        return 2
    found = "" if best.number else " (no other ranked better than the settings it began with)"
    console.print(
        f"best: trial {best.number}{found}, NDCG@10 {best.ndcg_at_10:.4f}, in {values['best']}"
    )
    return 0
