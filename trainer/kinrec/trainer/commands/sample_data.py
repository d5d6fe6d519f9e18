"""`kinrec sample-data`: writes made-up events and items to try kinrec with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--users", type=int, default=2000, metavar="N", help="how many people (%(default)s)"
    )
    parser.add_argument(
        "--items", type=int, default=1000, metavar="N", help="how many items (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=7, metavar="N", help="another gives another shop (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where to write the files"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def run(args: argparse.Namespace) -> int:
    """Write the files and say where they are.

    Returns:
        0; 2 if an argument or the folder cannot be used, with one line on standard error.
    """
    # Imported here so that --help does not wait for polars.
    from kinrec.trainer.errors import TrainerError  # noqa: PLC0415
    from kinrec.trainer.sample import make_sample, write_sample  # noqa: PLC0415

    try:
        sample = make_sample(users=args.users, items=args.items, seed=args.seed)
        events, items = write_sample(sample, args.out, force=args.force)
    except TrainerError as error:
        sys.stderr.write(f"kinrec sample-data: {error}\n")
        return 2
    sys.stdout.write(f"{events}: {len(sample.events)} events\n")
    sys.stdout.write(f"{items}: {len(sample.items)} items\n")
    return 0
