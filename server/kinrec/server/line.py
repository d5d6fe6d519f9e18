"""The line in which calls wait: how they are worked on, and how long one that comes now would wait."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
import time
import weakref
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from kinrec.engine.together import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)

# Python's own os.sched_yield holds the interpreter's lock while the others should run.
_yield_core = ctypes.CDLL(None).sched_yield

_MOST_YIELDS = 16
_KEPT = 0.97  # of how many came together, with each group of fewer
_SMOOTHING = 1 / 64  # what a call counts in the mean time that one takes
# The most that a group may count, for a pause of the whole process is none of its speed: so many times
# the mean for each of its calls, and so many seconds at first.
_LEAP = 32
_FIRST_STEP = 0.05
_LAST_SECONDS = 4.0  # for what is worked on when the process ends
_LATELY = 1.0  # seconds
# What comes is read for so much of the time that the last calls took, and so many seconds at least, though
# calls wait.
_READING_SHARE, _LEAST_READING = 0.5, 0.005


class Line:
    """The calls that wait, and how they are worked on; see ``inner_grpc.reader.Work``.

    Apart from the pool, so that a pool can go while a thread works.

    Args:
        most: How many are worked on together.

    Attributes:
        most: That.
        has_begun: Whether a thread works on them.
        working: How many are worked on, or were while the calls came that come now.
        came: How many calls have come into the line.
        turn: How often those that waited were taken to be worked on, or all that had come was read.
        step: The mean time that a call takes of those that are worked on together, in seconds.
    """

    def __init__(self, most: int) -> None:
        self.has_begun = False
        self.working = 0
        self.came = self.turn = 0
        self.step = 0.0
        self.most = most
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._runner = Runner()
        self._usual = 0.0  # how many came together lately, worked on or waiting for the next turn
        self._yields = 0
        self._since = time.monotonic()  # when those began to wait that are worked on next
        self._ended = self._since
        self._due = self._since + _LEAST_READING
        self._is_at_work = self._is_held = False
        self._may_work = threading.Lock()  # held while calls are worked on
        _lines.add(self)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._calls.qsize()

    def expected_wait(self, waiting: int) -> float:
        """Give how long a call that comes now would wait, in seconds.

        For the calls before it and for those in work, which are answered together when there are many.
        A few that just pass through wait for nobody.

        Args:
            waiting: How many wait.
        """
        return (waiting + min(waiting, self.working)) * self.step

    def expected_answer(self, waiting: int) -> float:
        """Give how long until a call that comes now has its answer, in seconds; 0 where none waits.

        It comes with the answers of those that are worked on together with it, likely as many as now.

        Args:
            waiting: How many wait.
        """
        return (waiting + self.working + 1) * self.step if waiting else 0.0

    def is_due(self) -> bool:
        """See ``Work``. After half of the time that the last ones took, so that neither waits for ever."""
        return time.monotonic() > self._due

    def put(self, call: Callable[[], None]) -> None:
        """Let a call wait. It must not raise."""
        if not (self._is_at_work or self.waiting):
            self._since = time.monotonic()
        self._calls.put(call)
        self.came += 1

    def begin(self) -> None:
        """See ``Work``."""
        self.has_begun = True

    def all_read(self) -> None:
        """See ``Work``."""
        self.turn += 1

    def rest(self) -> None:
        """See ``Work``."""
        now = time.monotonic()
        self.working = 0
        self._due = now + _LEAST_READING
        if now > self._ended + _LATELY:
            self._usual = 0.0

    def expects_more(self) -> bool:
        """Say whether to wait until as many have come as came together lately, and yield the core.

        They are on their way, and would otherwise make a group of their own, and the next ones too.
        Where nobody came lately nobody is waited for: another process would have the core, and its
        caches. Nor are they waited for more than some times.
        """
        if self.waiting >= min(self._usual, self.most) or self._yields == _MOST_YIELDS:
            return False
        self._yields += 1
        _yield_core()
        return True

    def do_some(self, first: Callable[[], None] | None = None) -> None:
        """Work on the calls that wait, as many as may be worked on together.

        Args:
            first: A call that was taken already.
        """
        while self._is_held:
            time.sleep(0.1)
        with self._may_work:
            self._yields = 0
            self._is_at_work = True
            try:
                group = self._group(first)
                if group:
                    self._work_on(group)
                else:
                    self._due = time.monotonic() + _LEAST_READING
            except BaseException:  # noqa: BLE001 - others come
                _log.exception("calls failed together")
            finally:
                self._is_at_work = False

    def end(self) -> None:
        """See ``Work``: of the calls that still wait nobody awaits the answers, which they find."""
        while self.waiting:
            self.do_some()
        self.has_begun = False
        self._runner.end()

    def do_all(self) -> None:
        """Work on what comes, until ``stop`` was called and all is done."""
        while (call := self._calls.get()) is not None:
            self.do_some(call)
            del call  # and with it the request, which can be large
        self.end()

    def stop(self) -> None:
        """Have ``do_all`` end."""
        self._calls.put(None)

    def hold(self) -> None:
        """Let nothing more be begun from now on; whoever would work waits for ever."""
        self._is_held = True

    def await_work(self, seconds: float) -> bool:
        """Wait for what is worked on now, and let nothing be worked on after it. When the line is held.

        Args:
            seconds: How long at most.

        Returns:
            Whether it was done in that time.
        """
        return self._may_work.acquire(timeout=max(seconds, 0.0))

    def _group(self, first: Callable[[], None] | None) -> list[Callable[[], None]]:
        """Take the calls that wait."""
        group = [] if first is None else [first]
        while len(group) < self.most:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            if call is None:  # for the next turn
                self._calls.put(None)
                break
            group.append(call)
        self.turn += 1
        return group

    def _work_on(self, group: list[Callable[[], None]]) -> None:
        count = self.working = len(group)
        began = time.monotonic()
        try:
            self._runner.run(group)
        finally:
            self._ended = now = time.monotonic()
            # With the reading while calls waited, for which a call that waits waits as well.
            took, self._since = now - self._since, now
            self._due = now + max((now - began) * _READING_SHARE, _LEAST_READING)
            step = min(took, max(count * _LEAP * self.step, _FIRST_STEP)) / count
            self.step += (step - self.step) * min(1.0, count * _SMOOTHING)
            self._usual = max(count + self.waiting, self._usual * _KEPT)


_lines: weakref.WeakSet[Line] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Let what is worked on be done, for a while: to go on beside an interpreter that ends is a fault."""
    lines, end = list(_lines), time.monotonic() + _LAST_SECONDS
    for line in lines:
        line.hold()
    if not all(line.await_work(end - time.monotonic()) for line in lines):
        _log.critical("calls are worked on that do not end: the process ends without them")
        logging.shutdown()
        os._exit(1)
