"""The command ``kinrec train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from kinrec.engine import BundleError
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.errors import ConfigError, TrainerError
from kinrec.trainer.files import find_files
from kinrec.trainer.progress import ConsoleReporter
from kinrec.trainer.reading import EventColumns, ItemColumns
from kinrec.trainer.settings import (
    PATH,
    PATHS,
    SWITCH,
    TEXT,
    Setting,
    add_settings,
    read_settings,
    settings_of,
    train_config,
)

if TYPE_CHECKING:
    import argparse

_EVENT_COLUMNS = ("user", "item", "time", "type", "value")
_FILES = [
    Setting(
        "events",
        PATHS,
        "Event logs: CSV, Parquet or JSON lines, plain, .gz or .zst, or folders of them. Required.",
        default=(),
    ),
    Setting("items", PATHS, "The items: item_id and title.", default=()),
    Setting("out", PATH, "The store that gets the bundle. Required."),
    Setting("resume", SWITCH, "Whether to go on from what an interrupted run left.", default=False),
]
_COLUMNS = [
    *(
        Setting(f"{name}_column", TEXT, "Of the events.", default=getattr(EventColumns(), name))
        for name in _EVENT_COLUMNS
    ),
    Setting("items_item_column", TEXT, "Of the items. Default: the same as --item-column"),
    Setting("title_column", TEXT, "Of the items.", default=ItemColumns().title),
]
_GROUPS = (
    ("files", None, _FILES),
    ("columns", "the names in your files", _COLUMNS),
    ("cleaning", "what is left out of the events and filled in", settings_of(CleaningConfig)),
    ("settings", "the defaults are meant to do well on any log", settings_of(TrainConfig)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings by the names of the flags below, with _ for -; flags win over the file",
    )
    for title, description, settings in _GROUPS:
        add_settings(parser.add_argument_group(title, description), settings)


def run(args: argparse.Namespace) -> int:
    """Train and say where the bundle is."""
    console = Console(soft_wrap=True, markup=False, emoji=False)
    try:
        known = [setting for _, _, settings in _GROUPS for setting in settings]
        values = read_settings(args.config, args, known)
        config = train_config(values)
        for key in ("events", "out"):
            if not values[key]:
                raise ConfigError(key, "", f"must be given, by --{key} or in the file of --config")
        event_columns = EventColumns(**{name: values[f"{name}_column"] for name in _EVENT_COLUMNS})
        item_columns = ItemColumns(
            item=values["items_item_column"] or event_columns.item, title=values["title_column"]
        )
        # Before torch is imported, which takes seconds.
        find_files([*values["events"], *values["items"]])
        from kinrec.trainer.training import Inputs, train  # noqa: PLC0415

        inputs = Inputs(values["events"], values["items"], event_columns, item_columns)
        reporter = ConsoleReporter(console)
        path = train(inputs, values["out"], config, reporter, resume=values["resume"])
    except (TrainerError, BundleError) as error:
        sys.stderr.write(f"kinrec train: {error}\n")
        return 2
    console.print(f"wrote {path}", highlight=False)
    return 0
