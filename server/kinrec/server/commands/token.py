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
    parser.description = (
        "Writes a token into a new file, for the caller, and prints what the file of kinrec serve --tokens "
        "has to say of it, by which nobody can find the token."
    )


def run(args: argparse.Namespace) -> int:
    """Write a token and print its entry.

    Returns:
        0; 2 if the name is none or the file is there or cannot be written, with one line on standard
        error.
    """
    from kinrec.server.security.tokens import TokensError, check_name, digest_of, new_token  # noqa: PLC0415

    token = new_token()
    try:
        name = check_name("name", args.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(args.out, flags, _OWNER_ONLY), "w", encoding="ascii") as file:
            file.write(f"{token}\n")
    except TokensError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"--out {args.out}: {error.strerror}")
    sys.stdout.write(f'[[tokens]]\nname = "{name}"\nsha256 = "{digest_of(token)}"\n')
    return 0


def _refuse(message: str) -> int:
    sys.stderr.write(f"kinrec token: {message}\n")
    return _BAD_USAGE
