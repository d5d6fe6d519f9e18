"""`kinrec token`: make a token for a caller."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_BAD_USAGE = 2
_OWNER_ONLY = 0o600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", help="what the server's log calls the caller")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a new file for the token"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="the file of kinrec serve --tokens, to which the entry is added (default: print it)",
    )
    parser.description = (
        "Writes a token into a new file, for the caller, and adds to the file of kinrec serve --tokens, or "
        "prints, what it has to say of the token, by which nobody can find the token."
    )


def run(args: argparse.Namespace) -> int:
    """Write a token and print its entry.

    Returns:
        0; 2 if the name is none or another's, or a file cannot be written, with one line on standard
        error.
    """
    from kinrec.server.security.tokens import (  # noqa: PLC0415 - of an extra
        TokensError,
        add_entry,
        check_name,
        entry_of,
        new_token,
    )
    from kinrec.server.security.watched import FlagFileError  # noqa: PLC0415

    token = new_token()
    try:
        name = check_name("name", args.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(args.out, flags, _OWNER_ONLY), "w", encoding="ascii") as file:
            file.write(f"{token}\n")
    except TokensError as error:
        return _refuse(str(error))
    except FileExistsError as error:
        return _refuse(f"--out {args.out}: {error.strerror}")
    except OSError as error:
        args.out.unlink(missing_ok=True)  # which a full disk leaves empty
        return _refuse(f"--out {args.out}: {error.strerror}")
    entry = entry_of(name, token)
    if args.tokens is None:
        sys.stdout.write(entry)
        return 0
    try:
        add_entry(args.tokens, entry)
    except FlagFileError as error:
        args.out.unlink()  # no server would take the token
        return _refuse(str(error))
    sys.stdout.write(f"wrote the token to {args.out}, and {name}'s entry to {args.tokens}\n")
    return 0


def _refuse(message: str) -> int:
    sys.stderr.write(f"kinrec token: {message}\n")
    return _BAD_USAGE
