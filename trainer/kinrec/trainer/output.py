"""Writes results whole or not at all, and finds out before the work whether they can be kept."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from kinrec.trainer.errors import OutputError, reason_of

if TYPE_CHECKING:
    from pathlib import Path


def check_writable(directory: Path, wanted: Path) -> None:
    """Raise OutputError, which names ``wanted``, unless files can be written into a directory."""
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _failed(wanted, error) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and rename it into it.

    Raises:
        OutputError: It cannot be written; what stood there still does.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(path, f"cannot be written: {reason_of(error)}")
