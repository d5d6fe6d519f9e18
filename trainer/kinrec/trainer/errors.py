"""The trainer's errors. Each text is one line that says what to change.

TrainerError
├── DataError      the events or items cannot be used
├── ConfigError    a setting breaks its rule
└── OutputError    a result cannot be written
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def reason_of(error: OSError | RuntimeError) -> str:
    """Say in words why a file could not be written.

    Numpy, torch and marisa-trie do not pass on the system's error: a write that ends early is all
    they say.
    """
    text = error.strerror if isinstance(error, OSError) else None
    return text or "a write ended early, the disk may be full"


class TrainerError(Exception):
    """The root of all errors that the trainer raises on purpose."""


class DataError(TrainerError):
    """The events or items cannot be used.

    Attributes:
        rule: What is wrong and what is asked for.
        file: The file in question; None if the error is about the data as a whole.
        column: The column in question, by its name in the file; None if it is about no one column.
    """

    def __init__(self, rule: str, *, file: Path | None = None, column: str | None = None) -> None:
        where = [str(file)] if file is not None else []
        if column is not None:
            where.append(f"column {column}")
        super().__init__(": ".join([*where, rule]))
        self.rule = rule
        self.file = file
        self.column = column


class ConfigError(TrainerError):
    """A setting breaks its rule.

    Attributes:
        key: The name of the setting.
        value: The value it was given.
        allowed: What is allowed, e.g. ``must be at least 1``.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key} = {value!r}: {allowed}")
        self.key = key
        self.value = value
        self.allowed = allowed


class OutputError(TrainerError):
    """A result cannot be written.

    Attributes:
        path: Where it was to be written.
        reason: Why that failed.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
