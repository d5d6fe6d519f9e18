"""The thread that works on calls, and how long a call that comes now would wait for it."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.engine.together import run_together
from kinrec.server import inner_grpc
from kinrec.server.inner_grpc import DONE, hold

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)

# Python's own os.sched_yield holds the interpreter's lock while the others should run.
_yield_core = ctypes.CDLL(None).sched_yield

_MOST_YIELDS = 16
_KEPT = 0.97  # of how many came together, with each group of fewer
_MANY, _FEW = (
    4.0,
    2.0,
)  # that came together lately: from which on, and below which again, it is said so
_SMOOTHING = 1 / 64  # what a call counts in the mean time that one takes
# The most that a group may count, for a pause of the whole process is none of its speed: so many times
# the mean for each of its calls, and so many seconds at first.
_LEAP = 32
_FIRST_STEP = 0.05


class CallPool(ThreadPoolExecutor):
    """A thread that works on calls, together on those that wait at the same time.

    It is for gRPC alone: to whoever submits a call it does not say what became of it. A call begins to
    wait when its message has come. (Where that cannot be known, as many threads as calls may be worked
    on together take one each, as gRPC has it, and nothing is known of how long they wait.)

    Args:
        most: How many calls are worked on together.
        on_crowd: Is told by the thread when many come together, and when they no longer do.
    """

    def __init__(self, most: int, on_crowd: Callable[[bool], None] | None = None) -> None:
        super().__init__(most)  # which has no thread until something is submitted to it
        self._held: dict[object, tuple[float, Callable[[], None]]] = {}  # the oldest first
        self._line = line = _Line(most, on_crowd)
        self._thread_ends = weakref.finalize(self, line.calls.put, None)
        threading.Thread(target=line.work, name="calls", daemon=True).start()

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

    @property
    def held(self) -> int:
        """How many calls have come whose message has not."""
        return len(self._held)

    def cancel_held(self, age: float) -> None:
        """Cancel the calls that have been held for so many seconds. For the thread that submits."""
        latest = time.monotonic() - age
        while self._held:
            key, (came, cancel) = next(iter(self._held.items()))
            if came > latest:
                break
            del self._held[key]
            cancel()

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """Have a call worked on when its turn comes.

        Returns:
            A future that is done already and has no result.
        """
        came, key = time.monotonic(), object()

        def wait(arguments: tuple[Any, ...]) -> None:
            self._held.pop(key, None)
            call = partial(fn, *arguments, **kwargs)
            self._line.calls.put(partial(_run, came, time.monotonic(), call))

        cancel = hold(args, wait)
        if cancel is not None:
            self._held[key] = came, cancel
        elif inner_grpc.IS_KNOWN:
            wait(args)
        else:
            super().submit(_run, came, came, partial(fn, *args, **kwargs))
        return DONE

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Let the thread end when all that was submitted is done."""
        self._thread_ends()
        super().shutdown(wait, cancel_futures=cancel_futures)


class _Line:
    """The calls that wait, and how they are worked on. Apart from the pool, so that a pool can go.

    Attributes:
        calls: Those that wait, which do not raise; None to end.
        working: How many are worked on.
        step: See ``CallPool``.
    """

    def __init__(self, most: int, on_crowd: Callable[[bool], None] | None) -> None:
        self.calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.working = 0
        self.step = 0.0
        self._most = most
        self._on_crowd = on_crowd
        self._is_crowded = False
        self._usual = 0.0  # how many came together lately, worked on or waiting for the next turn

    def work(self) -> None:
        """Do what comes, until None does."""
        while (call := self.calls.get()) is not None:
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
        is_crowded = self._usual >= (_FEW if self._is_crowded else _MANY)
        if is_crowded != self._is_crowded:
            self._is_crowded = is_crowded
            if self._on_crowd is not None:
                self._on_crowd(is_crowded)


class _OfThread(threading.local):
    """The times of the call that this thread has begun last."""

    times = (0.0, 0.0)


_of_thread = _OfThread()


def _run(came: float, received: float, call: Callable[[], object]) -> None:
    _of_thread.times = came, received
    try:
        call()
    except BaseException:  # noqa: BLE001 - gRPC catches what its methods raise
        _log.exception("a call failed outside its method")


def times_of_call() -> tuple[float, float]:
    """Say when the call that this thread has just begun came, and its message, by the monotonic clock."""
    return _of_thread.times
