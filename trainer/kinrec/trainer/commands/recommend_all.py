"""The command ``kinrec recommend-all``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from kinrec.engine import MAX_LIMIT, BundleError
from kinrec.engine.store import find_served
from kinrec.trainer.errors import ConfigError, OutputError, TrainerError
from kinrec.trainer.output import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("store", type=Path, help="a store or a bundle")
    parser.add_argument(
        "--version", help="the version in the store; if left out the pinned or newest one"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the file to write: .parquet, .csv or .jsonl",
    )
    parser.add_argument("--limit", type=int, default=10, help="items for each user (%(default)s)")
    parser.add_argument(
        "--include-seen",
        action=argparse.BooleanOptionalAction,
        help="whether to recommend items of the user's own history (default: the model's)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes (default: as many as cores)",
    )


def run(args: argparse.Namespace) -> int:
    """Recommend to everyone; the same command goes on where it was interrupted."""
    # As in the server: each process has a core to itself. Numpy reads it when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    try:
        for key, value, most in (
            ("limit", args.limit, MAX_LIMIT),
            ("workers", args.workers, 1_024),
        ):
            if not 1 <= value <= most:
                raise ConfigError(key, value, f"must be from 1 to {most:,}")
        bundle = find_served(args.store, args.version)
        if args.out.is_dir():
            raise OutputError(args.out, "cannot be written: it is a directory")
        check_writable(args.out.parent, args.out)
        # polars takes a while to import.
        from kinrec.trainer.everyone import WRITERS, Wanted, recommend_all  # noqa: PLC0415

        if args.out.suffix not in WRITERS:
            raise OutputError(args.out, f"must end in {', '.join(WRITERS)}")
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("users")
            users = recommend_all(
                bundle,
                args.out,
                Wanted(args.limit, args.include_seen),
                workers=args.workers,
                report=lambda done, of: progress.update(task, completed=done, total=of),
            )
    except (TrainerError, BundleError) as error:
        sys.stderr.write(f"kinrec recommend-all: {error}\n")
        return 2
    console.print(f"wrote {args.out}: recommendations of version {bundle.name} for {users:,} users")
    return 0
