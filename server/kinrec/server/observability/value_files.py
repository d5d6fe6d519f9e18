"""The files in which the processes of a server keep the values of their metrics.

A process writes to them by memory. Where the file system then has no room for a page that was never
written, the kernel kills the process; so all pages are written before, while there is somebody to tell.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# By the library's names. Twice what all methods, codes and reasons take; of the gauges 1,000 versions
# that one worker has served. Beyond that the library lets a file grow without room for it.
SIZES = {"counter": 1 << 16, "gauge_livesum": 1 << 18, "histogram": 1 << 19}  # bytes
_LIVE = "gauge_livesum"
_BEGIN = 8  # bytes, the first four of which say how many are in use: none if they are zero

_IN_MEMORY = "/dev/shm"  # noqa: S108 - the directory in it has a random name and is ours alone

_PREFIX = "kinrec-metrics-"
_YOUNG = 60.0  # seconds in which a directory may not yet be locked

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Tells the library of a process the directory."""

_log = logging.getLogger(__name__)


class Files(NamedTuple):
    """The files of a server.

    Attributes:
        directory: The path of the directory that they are in.
        lock: The descriptor that says that it is in use; None where the file system has no locks.
    """

    directory: str
    lock: int | None

    def close(self) -> None:
        """Remove them; nothing if they have gone."""
        remove_files(self.directory)
        if self.lock is not None:
            os.close(self.lock)


def places() -> list[str]:
    """Where the files may be, the best first: in memory, where the file system need not take writes."""
    memory = [_IN_MEMORY] if os.access(_IN_MEMORY, os.W_OK) else []
    return [*memory, tempfile.gettempdir()]


def make_files(processes: Sequence[str], places: Sequence[str]) -> Files:
    """Make a directory with the files of some processes, in the first place that has room for them.

    Those that nobody uses any more, of servers that were killed with all their processes, are removed
    first: they would fill the memory.

    Args:
        processes: What the library is to call each of them.
        places: Directories.

    Raises:
        OSError: No place has room.
    """
    for place in places:
        _remove_left(place)
    *others, last = places
    for place in others:
        try:
            return _make_in(place, processes)
        except OSError as error:
            _log.warning("metrics are kept in %s: %s: %s", last, place, error.strerror)
    return _make_in(last, processes)


def empty_live(directory: str, process: str) -> None:
    """Forget what a process was at that has ended. What it counted stays.

    The library would remove the file, and there may be no room for another.
    """
    with _path(directory, _LIVE, process).open("r+b") as file:
        file.write(bytes(_BEGIN))


def remove_files(directory: str) -> None:
    """Remove a directory of ``make_files``; nothing if it has gone."""
    shutil.rmtree(directory, ignore_errors=True)


def _make_in(place: str, processes: Sequence[str]) -> Files:
    directory = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)
    lock = None
    with suppress(OSError):
        lock = _lock(directory)
    files = Files(directory, lock)
    try:
        for process in processes:
            for kind, size in SIZES.items():
                _path(directory, kind, process).write_bytes(bytes(size))
    except OSError:
        files.close()
        raise
    return files


def _remove_left(place: str) -> None:
    for directory in Path(place).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, or has gone
            its = directory.lstat()
            if its.st_uid == os.geteuid() and time.time() - its.st_mtime > _YOUNG:
                Files(str(directory), _lock(directory)).close()


def _lock(directory: str | Path) -> int:
    """Lock a directory until the descriptor is closed, which the system does for a process that ends.

    Raises:
        OSError: Another descriptor has it locked, or it is no directory.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _path(directory: str, kind: str, process: str) -> Path:
    return Path(directory, f"{kind}_{process}.db")
