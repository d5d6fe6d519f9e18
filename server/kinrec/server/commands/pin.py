"""`kinrec pin`: say which version of a store its servers are to serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.engine import BundleError
from kinrec.engine.store import list_versions, read_pin, write_pin

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("store", type=Path, help="a store")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("version", nargs="?", help="the version to serve from now on")
    what.add_argument(
        "--newest", action="store_true", help="serve the newest version again, as without a pin"
    )


def run(args: argparse.Namespace) -> int:
    """Pin a version, or the newest, or without either say which versions there are.

    Returns:
        0; 2 if there is no such store or version, with one line on standard error.
    """
    try:
        if args.newest or args.version:
            write_pin(args.store, args.version)
        pinned = read_pin(args.store)
    except BundleError as error:
        sys.stderr.write(f"kinrec pin: {error}\n")
        return 2
    versions = list_versions(args.store)
    served = pinned or (versions[-1] if versions else "")
    for version in versions:
        mark = "" if version != served else "  pinned" if pinned else "  newest"
        sys.stdout.write(f"{version}{mark}\n")
    return 0
