"""The command ``kinrec train``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kinrec.engine import BundleError
from kinrec.engine.store import read_manifest
from kinrec.trainer.commands import _log
from kinrec.trainer.commands._process import set_up
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.progress import ConsoleReporter
from kinrec.trainer.settings import (
    PATH,
    SWITCH,
    Setting,
    add_groups,
    read_settings,
    settings_of,
    train_config,
)

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from kinrec.bundle.v1.manifest_pb2 import Manifest

_FILES = [
    *_log.FILES,
    Setting("out", PATH, "The store that gets the bundle. Required."),
    Setting("resume", SWITCH, "Whether to go on from what an interrupted run left.", default=False),
]
_GROUPS = (
    ("files", None, _FILES),
    *_log.GROUPS,
    ("settings", "the defaults are meant to do well on any log", settings_of(TrainConfig)),
)

# Held-out events: on fewer, the weights and the default for seen items are as much chance as choice.
FEW = 300
FOR_NEW = "who asks with include_seen = false gets new ones alone; "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_groups(parser, _GROUPS)


def run(args: argparse.Namespace) -> int:
    """Train and say where the bundle is."""
    set_up()
    console = Console(soft_wrap=True, markup=False, emoji=False)
    values: dict[str, Any] = {}
    try:
        values = read_settings(args.config, args, _GROUPS)
        config = train_config(values)
        _log.require(values, "events", "out")
        inputs = _log.read_inputs(values)
        from kinrec.trainer.training import train  # noqa: PLC0415 - imports torch, which takes seconds

        reporter = ConsoleReporter(console)
        path = train(inputs, values["out"], config, reporter, resume=values["resume"])
    except (TrainerError, BundleError) as error:
        sys.stderr.write(f"kinrec train: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"kinrec train: interrupted{_how_to_go_on(values.get('out'))}\n")
        raise
    console.print(_seen_items(read_manifest(path)), highlight=False)
    console.print(f"wrote {path}", highlight=False)
    return 0


def _how_to_go_on(store: Path | None) -> str:
    from kinrec.trainer.checkpoint import is_left  # noqa: PLC0415 - imports torch, as above

    if store is None or not is_left(store):
        return " before the first epoch was over, so there is nothing to resume"
    return "; the same command with --resume goes on"


def _seen_items(manifest: Manifest) -> str:
    """Say whether items of the history are recommended by default, and what was measured for it."""
    choice = "included" if manifest.event_spec.include_seen_default else "left out"
    validation = manifest.validation
    few = validation.people < FEW
    if not validation.people:
        return f"seen items {choice} by default: there was nobody to measure it on"
    return (
        f"seen items {choice} by default: {validation.repeat_share:.1%} of "
        f"{validation.people:,} held-out events were with an item that the person knew; "
        f"{FOR_NEW if manifest.event_spec.include_seen_default else ''}"
        f"NDCG@10 of the blend {validation.blend_ndcg_at_10:.4f}"
        + (f", which is little to go by: weights of {FEW:,} or more are surer" if few else "")
    )
