"""What is read from files that change while the server runs: certificates and tokens."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_Value = TypeVar("_Value")
_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class FlagFileError(ValueError):
    """A file that a flag names cannot be used. The text is one line that names both and the reason."""


class Watched(Generic[_Value]):
    """A value that is read from files, and read again when they change. Threads may share it.

    The files are looked at when somebody asks, at most once in a second. Where they cannot be used any
    more the log says so, once for each change, and the value stays as it was.

    Args:
        paths: The files.
        read: Reads the value from them; raises `FlagFileError` if it cannot.

    Raises:
        FlagFileError: They cannot be used now.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], _Value]) -> None:
        self._paths = paths
        self._read = read
        self._looking = threading.Lock()
        self._look_at = time.monotonic() + _LOOK_SECONDS
        # Before they are read: what is written meanwhile is a change that is still to come.
        self._seen = _signature(paths)
        self._value = read()

    def get(self) -> _Value:
        """The value of the files as they are now, or as they were when they could be used last."""
        # Who comes while another looks does not wait for it.
        if time.monotonic() >= self._look_at and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._look_at = time.monotonic() + _LOOK_SECONDS
                self._looking.release()
        return self._value

    def _look(self) -> None:
        found = _signature(self._paths)
        if found == self._seen:
            return
        self._seen = found
        names = ", ".join(map(str, self._paths))
        try:
            self._value = self._read()
        except FlagFileError as error:
            _log.warning(
                "%s changed and cannot be used, what was read before stays: %s", names, error
            )
        else:
            _log.info("%s changed and is in use", names)


def _signature(paths: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    """What changes when a file is written, replaced, or the link to it is set anew."""
    return [_signature_of(path) for path in paths]


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:  # reading it says why
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
