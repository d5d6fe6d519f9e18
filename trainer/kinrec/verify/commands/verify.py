"""The command ``kinrec verify``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from kinrec.client.commands.connection import (
    ConnectionFlagError,
    add_connection,
    connection_of,
)
from kinrec.engine import BundleError
from kinrec.engine.store import find_bundle
from kinrec.trainer.errors import ConfigError, TrainerError
from kinrec.trainer.output import check_writable

if TYPE_CHECKING:
    import argparse

    from kinrec.verify.comparing import Row
    from kinrec.verify.verification import Verification

_FAILED = 1
_BAD_USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("store", type=Path, help="a store or a bundle")
    parser.add_argument("--version", help="the version in the store; the newest if left out")
    parser.add_argument(
        "--people",
        type=int,
        default=200,
        metavar="N",
        help="replay the events of at most N people for each length of history (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another chooses others (%(default)s)"
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        help="a running server of the bundle (default: one is started for it)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Replay, print what was found and keep it in the bundle.

    Returns:
        0 if everything agrees, 1 if not; 2 if an argument, the bundle or the server cannot be used,
        with one line on standard error.
    """
    # As in the server. Numpy and torch read them when they are imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Imported here so that --help does not wait for onnxruntime.
    from kinrec.client import KinrecError  # noqa: PLC0415
    from kinrec.server.port import PortError  # noqa: PLC0415
    from kinrec.verify.asking import ServedVersionError  # noqa: PLC0415
    from kinrec.verify.verification import Wanted, verify  # noqa: PLC0415

    console = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
    try:
        for key, value, least, most in (
            ("people", args.people, 1, 100_000),
            ("seed", args.seed, 0, 2**31 - 1),
        ):
            if not least <= value <= most:
                raise ConfigError(key, value, f"must be from {least:,} to {most:,}")
        bundle = find_bundle(args.store, args.version)
        check_writable(bundle, bundle)
        wanted = Wanted(args.people, args.seed, args.target, connection_of(args))
        with Console(stderr=True).status("") as status:
            found = verify(bundle, wanted, lambda way: status.update(f"replaying: {way}"))
    except (TrainerError, BundleError, PortError, ConnectionFlagError) as error:
        return _refuse(str(error))
    except (KinrecError, ServedVersionError) as error:
        return _refuse(str(error) if args.target is None else f"--target {args.target}: {error}")
    if args.json:
        sys.stdout.write(found.as_json())
    else:
        _show(console, found)
    return 0 if found.passed else _FAILED


def _refuse(message: str) -> int:
    sys.stderr.write(f"kinrec verify: {message}\n")
    return _BAD_USAGE


def _show(console: Console, found: Verification) -> None:
    if console.is_terminal:
        console.print("largest difference by the number of events, and overlap of the top 20:")
        console.print(_table(found.rows))
        console.print()
    else:
        for row in found.rows:
            console.print(_line(row))
    for way, reason in found.skipped.items():
        console.print(f"{way}: skipped, {reason}")
    console.print(
        f"version {found.version}, {found.people:,} people: "
        f"{'passed' if found.passed else 'failed'}; "
        f"a difference of {found.tolerance:g} is allowed, and none where carried"
    )


def _line(row: Row) -> str:
    return (
        f"{row.name}: {'passed' if row.passed else 'failed'}, "
        f"largest difference {_number(row.largest_difference)}, top 20 overlap "
        f"{row.mean_overlap:.4f}, least {row.least_overlap:.2f}, {row.sequences:,} sequences"
    )


def _table(rows: tuple[Row, ...]) -> Table:
    """Give a row for each way, with the largest difference by the number of events."""
    lengths = list(dict.fromkeys(length for row in rows for length in row.by_length))
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for length in lengths:
        table.add_column(length, justify="right")
    for name in ("mean", "least", ""):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [
            _number(row.by_length[length]) if length in row.by_length else "" for length in lengths
        ]
        overlaps = [f"{row.mean_overlap:.4f}", f"{row.least_overlap:.2f}"]
        table.add_row(row.name, *cells, *overlaps, "" if row.passed else "failed")
    return table


def _number(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"
