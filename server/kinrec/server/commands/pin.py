"""`kinrec pin`: say which version of a store its servers are to serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.engine import BundleError
from kinrec.engine.model import check_bundle
from kinrec.engine.store import find_bundle, list_versions, read_pin, write_pin

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
        0; 2 if there is no such store or version, or it is damaged, with one line on standard error.
    """
    try:
        if args.version:
            check_bundle(find_bundle(args.store, args.version))
        if args.newest or args.version:
            write_pin(args.store, args.version)
        pinned = read_pin(args.store)
        if pinned is None:
            find_bundle(args.store)
    except BundleError as error:
        sys.stderr.write(f"kinrec pin: {error}\n")
        return 2
    versions = list_versions(args.store)
    marks = {versions[-1]: "  newest"} if versions and pinned is None else {pinned: "  pinned"}
    for version in versions:
        sys.stdout.write(f"{version}{marks.get(version, '')}\n")
    if pinned is not None and pinned not in versions:
        sys.stdout.write(f"{pinned}  pinned, but not there\n")
    return 0
