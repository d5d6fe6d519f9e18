"""The command line: `kinrec COMMAND ...`. It finds the command; each part of kinrec brings its own."""

from kinrec.cli._main import main

__all__ = ["main"]
