"""Finds the command, runs it, and ends the process in good order.

Exit codes: what the command returns; 2 for bad usage or a missing extra, with one line on standard
error; 130 after Ctrl-C; 141 when the reader of standard output has gone, as a shell counts both.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Never

from kinrec.cli._commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.cli._commands import Command

_BAD_USAGE = 2
_INTERRUPTED = 128 + 2  # SIGINT
_READER_GONE = 128 + 13  # SIGPIPE


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> Never:
        one_line = " ".join(message.split())
        self.exit(_BAD_USAGE, f"{self.prog}: {one_line} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kinrec`.

    Args:
        argv: What was typed after `kinrec`; None for the arguments of the process.

    Returns:
        The exit code.
    """
    # Else gRPC writes a line of its own for each handshake that comes to nothing, and strangers fill the
    # log of a server. It reads this when it is imported, which a command does.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if isinstance(sys.stdout, io.TextIOWrapper):  # titles may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return _dispatch(list(sys.argv[1:] if argv is None else argv))
        finally:  # here, for at exit it would be too late to be quiet about a reader that has gone
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    for command in COMMANDS:
        if command.name == name:
            return _run(command, arguments[1:])
    options = _overview().parse_args(arguments)
    if options.version:
        sys.stdout.write(f"kinrec {metadata.version('kinrec')}\n")
        return 0
    return _refuse("kinrec: which command? (see kinrec --help)")


def _overview() -> argparse.ArgumentParser:
    """A parser that knows of the commands what `kinrec --help` shows."""
    parser = _Parser(prog="kinrec", description="Recommendations from behaviour sequences.")
    parser.add_argument("--version", action="store_true", help="show the version of kinrec")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        commands.add_parser(command.name, help=command.help)
    return parser


def _run(command: Command, arguments: list[str]) -> int:
    if not command.is_installed():
        return _refuse(
            f"kinrec {command.name} needs the {command.extra}: "
            f"install kinrec with its extra {command.extra!r}"
        )
    module = command.load()
    parser = _Parser(prog=f"kinrec {command.name}", description=_sentence(command.help))
    module.add_arguments(parser)
    return module.run(parser.parse_args(arguments))


def _refuse(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return _BAD_USAGE


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
