"""Has the thread that reads calls work on them as well.

A thread of its own for that would be woken for each call, and would take the core, its caches and the
interpreter's lock from the one that works whenever something comes.
"""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from kinrec.server.inner_grpc import known
from kinrec.server.inner_grpc.gate import refuse
from kinrec.server.inner_grpc.known import server
from kinrec.server.inner_grpc.more import ask_for_more

if TYPE_CHECKING:
    from collections.abc import Callable

    from kinrec.server.inner_grpc.gate import Gate

_log = logging.getLogger(__name__)

_LONGEST_REST = 1.0  # seconds after which it is looked whether the server is still there
# How many calls of a method gRPC is asked for at a time, and how much that comes is read before anything is
# done with it: what is done for one after the other costs less than if each is read between.
_TOGETHER = 32
_LOOKS = 2  # that find nothing before all is read: of several sockets gRPC looks at one at a time
# Seconds between looks at whether a part of the work takes long, and between the looks of who reads then.
_LONG, _SHORT = 0.1, 0.005


class Work(Protocol):
    """What the thread that reads does besides. For that thread alone."""

    @property
    def waiting(self) -> int:
        """How much there is to do."""

    def is_due(self) -> bool:
        """Say whether it is to be done now, if there is any, though more can be read."""

    def begin(self) -> None:
        """The thread begins."""

    def all_read(self) -> None:
        """All that had come is read."""

    def rest(self) -> None:
        """All that had come was read and done, until now, when something else has come or time has passed."""

    def expects_more(self) -> bool:
        """Say whether more will come at once, and let go of the core so that it can."""

    def do_some(self) -> None:
        """Do a part of what there is to do. It must not raise."""

    def end(self) -> None:
        """The thread ends."""


class WorkedPool(ThreadPoolExecutor):
    """A pool of which the thread that reads the calls of its server does the work.

    Attributes:
        work: What is done; nothing, where gRPC is not known.
        gate: Refuses some of the calls before anything is made of them; none, where gRPC is not known.
    """

    work: Work
    gate: Gate | None = None
    _reader: Reader | None = None

    def await_read(self, seconds: float) -> None:
        """Wait until all that has come to the server is read, but no longer than so many seconds."""
        reader = self._reader
        if reader is not None:
            reader.await_all(seconds)


class Reader:
    """Reads what comes to a server, as ``grpc._server._serve`` does, and does the work of its pool.

    While a part of the work takes long another thread reads: health is answered, and calls are refused,
    cancelled and ended however long that part takes.
    """

    def __init__(self, state: Any, work: Work) -> None:  # noqa: ANN401 - gRPC's own
        self._state = state
        self._work = work
        self._timeout = server.cygrpc.CompletionType.queue_timeout
        self._is_done = False  # whether the server has stopped
        self._reads = threading.Lock()  # held by the thread that reads
        self._part: object | None = None  # the one of the work that is done now
        self._times_read = 0  # that all which had come was read
        self._rests = False  # whether it waits for something to come
        self._stand_in = threading.Thread(
            target=_run_or_end, args=(self._read_meanwhile,), name="read", daemon=True
        )

    def await_all(self, seconds: float) -> None:
        """Wait until all that has come is read, but no longer than so many seconds."""
        before, end = self._times_read, time.monotonic() + seconds
        while self._times_read == before and not (self._rests or self._is_done):
            if time.monotonic() >= end:
                break
            time.sleep(_SHORT)

    def read_and_work(self) -> None:
        """Do both until the server has stopped."""
        work = self._work
        ask_for_more(self._state, _TOGETHER)
        work.begin()
        self._stand_in.start()
        self._reads.acquire()
        while not self._is_done:
            if self._read_all(work.is_due):
                if not work.waiting:
                    self._rests = True
                    self._read(_LONGEST_REST)
                    work.rest()
                    continue
                if work.expects_more():
                    continue
            self._part = object()
            self._reads.release()
            work.do_some()
            self._part = None
            self._reads.acquire()
        self._reads.release()
        work.end()

    def _read_all(self, is_enough: Callable[[], bool]) -> bool:
        """Read what has come, until that is enough.

        Returns:
            Whether all was read.
        """
        looks = 0
        while looks < _LOOKS:
            if not self._read():
                looks += 1
            elif is_enough():
                return False
            else:
                looks = 0
        self._times_read += 1
        self._work.all_read()
        return True

    def _read(self, seconds: float = 0.0) -> bool:
        """Read what has come, and have gRPC do what there is to do with it.

        Several things at once where calls wait, which costs less for each; else one.

        Args:
            seconds: How long to wait for the first.

        Returns:
            Whether anything came in that time.
        """
        state = self._state
        most = _TOGETHER if self._work.waiting else 1
        events: list[Any] = []
        while len(events) < most and not self._is_done:
            event = state.completion_queue.poll(time.time() + seconds if seconds else 0)
            self._rests = False
            if state.server_deallocated:
                server._begin_shutdown_once(state)
            if event.completion_type == self._timeout:
                break
            seconds = 0.0
            events.append(event)
        for event in refuse(state, events, state.thread_pool.gate) if events else ():
            if not server._process_event_and_continue(state, event):
                self._is_done = True
        return bool(events)

    def _read_meanwhile(self) -> None:
        """Read while a part of the work takes long."""
        part = None
        while not self._is_done:
            before, part = part, self._part
            is_long = part is not None and part is before
            time.sleep(_SHORT if is_long else _LONG)
            if is_long:
                self._read_during(part)

    def _read_during(self, part: object) -> None:
        with self._reads:
            if self._part is part:
                self._read_all(lambda: self._part is not part)


def _run_or_end(read: Callable[[], None]) -> None:
    """Have a thread read calls, and end the process if it no longer can.

    The process would live and answer nothing; whoever started it can start another.
    """
    try:
        read()
    except BaseException:  # noqa: BLE001 - whatever it is
        _log.critical("calls can no longer be read: the process ends", exc_info=True)
        logging.shutdown()
        os._exit(1)


def _serve_and_work(serve: Callable[[Any], None]) -> Callable[[Any], None]:
    """Have the thread that reads do the work of the server's pool, if it has some."""

    @functools.wraps(serve)
    def serve_and_work(state: Any) -> None:  # noqa: ANN401 - gRPC's own
        pool = state.thread_pool
        if not isinstance(pool, WorkedPool):
            serve(state)
            return
        pool._reader = Reader(state, pool.work)
        _run_or_end(pool._reader.read_and_work)
        pool._reader = None

    return serve_and_work


if known.IS_KNOWN:
    server._serve = _serve_and_work(server._serve)
