"""Bells: each wakes the one thread that waits for it."""

from __future__ import annotations

import os
import sys
import threading
from typing import Protocol


class Bell(Protocol):
    """Wakes one thread, once for each time that it waits."""

    def ring(self) -> None:
        """Let the thread go on, now or when it waits."""

    def wait(self) -> None:
        """Wait until it is rung."""


class _LockBell:
    """A bell for everywhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """See ``Bell``."""
        self._lock.release()

    def wait(self) -> None:
        """See ``Bell``."""
        self._lock.acquire()


class _EventBell:
    """A bell whose ringer lets go of the interpreter's lock, so that who wakes can go on at once.

    Who is woken by a lock of Python's takes the core, finds the interpreter's lock taken, and gives the
    core back: twice as many switches.
    """

    _ONE = (1).to_bytes(8, sys.byteorder)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    def ring(self) -> None:
        """See ``Bell``."""
        os.write(self._descriptor, self._ONE)

    def wait(self) -> None:
        """See ``Bell``."""
        os.read(self._descriptor, 8)


_of_thread = threading.local()


def bell_of_thread() -> Bell:
    """Give this thread's bell, which only this thread is to wait for."""
    bell: Bell | None = getattr(_of_thread, "bell", None)
    if bell is None:
        bell = _of_thread.bell = make_bell()
    return bell


def forget_bell() -> None:
    """Have another bell from now on: this one may still be rung for what nobody waits for any more."""
    _of_thread.bell = None


if hasattr(os, "register_at_fork"):
    # The parent's would ring for the child too.
    os.register_at_fork(after_in_child=forget_bell)


def make_bell() -> Bell:
    """Give a bell that nobody has yet."""
    if hasattr(os, "eventfd"):
        try:
            return _EventBell(os.eventfd(0, os.EFD_CLOEXEC))
        except OSError:  # the process has as many files open as it may
            pass
    return _LockBell()
