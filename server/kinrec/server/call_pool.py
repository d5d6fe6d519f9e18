"""The thread that works on calls, and how long a call that comes now would wait for it."""

from __future__ import annotations

import atexit
import ctypes
import logging
import threading
import time
import weakref
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.engine.together import run_together
from kinrec.server import inner_grpc
from kinrec.server.inner_grpc import DONE, GatedPool, Held
from kinrec.server.observability.calls import note_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import grpc

    from kinrec.server.inner_grpc import Status

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)

# Python's own os.sched_yield holds the interpreter's lock while the others should run.
_yield_core = ctypes.CDLL(None).sched_yield

_MOST_YIELDS = 16
_KEPT = 0.97  # of how many came together, with each group of fewer
# So many that came together lately are a crowd, until there are so few.
_MANY, _FEW = 4.0, 2.0
_SMOOTHING = 1 / 64  # what a call counts in the mean time that one takes
# The most that a group may count, for a pause of the whole process is none of its speed: so many times
# the mean for each of its calls, and so many seconds at first.
_LEAP = 32
_FIRST_STEP = 0.05
_LAST_SECONDS = 5.0  # for what is worked on when the process ends
_REST = 1.0  # seconds without a call, after which no crowd is there any more

MOST_HELD = 128
"""How many calls a pool holds whose message has not come, which can take the memory of the largest."""


class CallPool(GatedPool):
    """A thread that works on calls, together on those that wait at the same time.

    It is for gRPC alone: to whoever submits a call it does not say what became of it. A call begins to
    wait when its message has come. (Where that cannot be known, as many threads as calls may be worked
    on together take one each, as gRPC has it, and nothing is known of how long they wait.)

    Args:
        most: How many calls are worked on together.
        give_up: See ``Held``.
        on_crowd: Is told by the thread when many come together, and when they no longer do.
    """

    def __init__(
        self,
        most: int,
        give_up: Callable[[grpc.HandlerCallDetails], Status],
        on_crowd: Callable[[bool], None] | None = None,
    ) -> None:
        super().__init__(most)  # which has no thread until something is submitted to it
        self._held = Held(MOST_HELD, give_up)
        self._line = line = _Line(most, on_crowd)
        self._thread_ends = weakref.finalize(self, line.calls.put, None)
        self._thread_ends.atexit = False  # which _end_all sees to
        line.thread.start()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._line.calls.qsize()

    @property
    def expected_wait(self) -> float:
        """How long a call that comes now would wait, in seconds.

        For the calls before it and for those in work, which are answered together when there are many.
        A few that just pass through the line wait for nobody.
        """
        waiting = self.waiting
        return (waiting + min(waiting, self._line.working)) * self._line.step

    @property
    def step(self) -> float:
        """The mean time that a call takes of those that are worked on together, in seconds."""
        return self._line.step

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """Have a call worked on when its turn comes.

        Returns:
            A future that is done already and has no result.
        """
        came = time.monotonic()

        def wait(arguments: tuple[Any, ...]) -> None:
            call = partial(fn, *arguments, **kwargs)
            self._line.calls.put(partial(_run, came, time.monotonic(), call))

        if self._held.hold(args, wait):
            return DONE
        if inner_grpc.IS_KNOWN:
            wait(args)
        else:
            super().submit(_run, came, came, partial(fn, *args, **kwargs))
        return DONE

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Let the thread end when all that was submitted is done."""
        self._thread_ends()
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._line.thread.join()


class _Line:
    """The calls that wait, and how they are worked on. Apart from the pool, so that a pool can go.

    Attributes:
        calls: Those that wait, which do not raise; None to end.
        working: How many are worked on.
        step: See ``CallPool``.
        thread: That works on them.
    """

    def __init__(self, most: int, on_crowd: Callable[[bool], None] | None) -> None:
        self.calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.working = 0
        self.step = 0.0
        self.thread = threading.Thread(target=self.work, name="calls", daemon=True)
        self._most = most
        self._on_crowd = on_crowd
        self._is_crowded = False
        self._usual = 0.0  # how many came together lately, worked on or waiting for the next turn
        _lines.add(self)

    def work(self) -> None:
        """Do what comes, until None does."""
        while True:
            try:
                call = self.calls.get(timeout=_REST if self._is_crowded else None)
            except Empty:
                self._usual = 0.0
                self._say_crowded(is_crowded=False)
                continue
            if call is None:
                self._say_crowded(is_crowded=False)
                return
            try:
                self._work_from(call)
            except BaseException:  # noqa: BLE001 - others come
                _log.exception("calls failed together")
            del call  # and with it the request, which can be large

    def _work_from(self, first: Callable[[], None]) -> None:
        group = self._group(first)
        count = self.working = len(group)
        began = time.monotonic()
        try:
            run_together(group)
        finally:
            self.working = 0
            took = time.monotonic() - began
            step = min(took, max(count * _LEAP * self.step, _FIRST_STEP)) / count
            self.step += (step - self.step) * min(1.0, count * _SMOOTHING)
            self._note_crowd(count + self.calls.qsize())

    def _group(self, first: Callable[[], None]) -> list[Callable[[], None]]:
        """Take the calls that wait.

        Before, it lets go of the core, some times at most, until as many have come as came together
        lately: they are on their way, and would otherwise make a group of their own, and the next ones
        too. Where nobody came lately nobody is waited for: another process would have the core, and
        its caches.
        """
        wanted = min(self._usual, self._most)
        for _ in range(_MOST_YIELDS):
            if self.calls.qsize() + 1 >= wanted:
                break
            _yield_core()
        group = [first]
        while len(group) < self._most:
            try:
                call = self.calls.get_nowait()
            except Empty:
                break
            if call is None:  # for the next turn
                self.calls.put(None)
                break
            group.append(call)
        return group

    def _note_crowd(self, count: int) -> None:
        self._usual = max(count, self._usual * _KEPT)
        self._say_crowded(is_crowded=self._usual >= (_FEW if self._is_crowded else _MANY))

    def _say_crowded(self, *, is_crowded: bool) -> None:
        if is_crowded == self._is_crowded:
            return
        self._is_crowded = is_crowded
        try:
            if self._on_crowd is not None:
                self._on_crowd(is_crowded)
        except Exception:  # noqa: BLE001 - it is for speed alone
            _log.exception("whether many calls come together could not be told")


_lines: weakref.WeakSet[_Line] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Let what is worked on be done: to be ended within a greenlet would be the end of the process."""
    lines = [line for line in _lines if line.thread.is_alive()]
    for line in lines:
        line.calls.put(None)
    for line in lines:
        line.thread.join(_LAST_SECONDS)


def _run(came: float, received: float, call: Callable[[], object]) -> None:
    note_times(came, received)
    try:
        call()
    except BaseException:  # noqa: BLE001 - gRPC catches what its methods raise
        _log.exception("a call failed outside its method")
