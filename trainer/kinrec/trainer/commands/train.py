"""The command ``kinrec train``."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from kinrec.engine import BundleError
from kinrec.trainer.config import LEAVE_ONE_OUT, TEMPORAL, TrainConfig
from kinrec.trainer.errors import TrainerError
from kinrec.trainer.files import find_files
from kinrec.trainer.progress import ConsoleReporter
from kinrec.trainer.reading import EventColumns, ItemColumns

if TYPE_CHECKING:
    import argparse

_METAVARS = {"split": f"{LEAVE_ONE_OUT}|{TEMPORAL}", "test_from": "DATE_OR_SECONDS"}
_EVENT_COLUMNS = ("user", "item", "time", "type", "value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--events",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="event logs: CSV, Parquet or JSON lines, plain, .gz or .zst, or folders of them",
    )
    parser.add_argument(
        "--items", type=Path, nargs="+", default=[], metavar="PATH", help="item_id and title"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="STORE", help="the store that gets the bundle"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from what an interrupted run left"
    )
    columns = parser.add_argument_group("columns", "the names in your files")
    defaults = EventColumns()
    for name in _EVENT_COLUMNS:
        default = getattr(defaults, name)
        columns.add_argument(
            f"--{name}-column", default=default, help=f"of the events; default: {default}"
        )
    columns.add_argument(
        "--items-item-column", help="of the items; default: the same as --item-column"
    )
    columns.add_argument(
        "--title-column",
        default=ItemColumns().title,
        help=f"of the items; default: {ItemColumns().title}",
    )
    explained = _explanations()
    settings = parser.add_argument_group("settings", "the defaults are meant to do well on any log")
    for field in fields(TrainConfig):
        if field.default is MISSING or field.name == "drop_immediate_repeats":
            continue
        default = "none" if field.default == "" else field.default
        settings.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar=_METAVARS.get(field.name, "N"),
            help=f"{explained[field.name]} Default: {default}",
        )
    settings.add_argument(
        "--keep-immediate-repeats",
        action="store_false",
        dest="drop_immediate_repeats",
        help="keep events that repeat the item and type of the one before",
    )


def _explanations() -> dict[str, str]:
    """Give what the docstring of the configuration says of each setting, as argparse wants it."""
    attributes = inspect.getdoc(TrainConfig) or ""
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()).replace("%", "%%") for name, text in found}


def run(args: argparse.Namespace) -> int:
    """Train and say where the bundle is."""
    console = Console(soft_wrap=True, markup=False, emoji=False)
    try:
        config = TrainConfig(**{f.name: getattr(args, f.name) for f in fields(TrainConfig)})
        event_columns = EventColumns(
            **{name: getattr(args, f"{name}_column") for name in _EVENT_COLUMNS}
        )
        item_columns = ItemColumns(
            item=args.items_item_column or event_columns.item, title=args.title_column
        )
        find_files([*args.events, *args.items])  # before torch is imported, which takes seconds
        from kinrec.trainer.training import Inputs, train  # noqa: PLC0415

        inputs = Inputs(args.events, args.items, event_columns, item_columns)
        path = train(inputs, args.out, config, ConsoleReporter(console), resume=args.resume)
    except (TrainerError, BundleError) as error:
        sys.stderr.write(f"kinrec train: {error}\n")
        return 2
    console.print(f"wrote {path}", highlight=False)
    return 0
