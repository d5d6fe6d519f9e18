"""Has the questions that wait at the same time worked on together, by one of the threads that ask.

Threads that compute side by side on one core take the interpreter's lock and the core's caches from
each other at every step; one that does the first step for all, then the second for all, does not.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from kinrec.engine.bell import bell_of_thread, forget_bell

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Never

    from kinrec.engine.bell import Bell

# Python's own os.sched_yield holds the interpreter's lock while the others should run.
_yield_core = ctypes.CDLL(None).sched_yield

_MOST_YIELDS = 16
_KEPT = 0.97  # of how many came together, with each batch of fewer

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class Task(Generic[_Asked, _Answer]):
    """What a thread asks, and where it finds the answer or its turn to work.

    Attributes:
        asked: What is asked.
        answer: Set by who has worked on it; None until then.
        error: Set instead if there is no answer.
        bell: Rings when there is an answer, or it is its turn; None for the first, who need not wait.
        is_rung_for: Whether it has rung, or is about to.
    """

    __slots__ = ("answer", "asked", "bell", "error", "is_rung_for")

    def __init__(self, asked: _Asked) -> None:
        self.asked = asked
        self.answer: _Answer | None = None
        self.error: BaseException | None = None
        self.bell: Bell | None = None
        self.is_rung_for = False


class Batching(Generic[_Asked, _Answer]):
    """Works on what already waits together, and never makes a lone caller wait.

    The first caller works. Those who come meanwhile wait. When the work is done, the first of them
    works on what has come and is close by the word of ``is_close``. Before it begins it lets go of the
    core, some times at most, until as many have come as came together lately: they are on their way,
    and would otherwise make a batch of their own, and the next ones too. Where nobody came lately
    nobody is waited for: another process would have the core, and its caches.

    Args:
        work: Answers the tasks of a batch: sets the answer or the error of each. What it raises
            instead is the error of all that have neither.
        is_close: Whether what another asks costs little beside what the first of a batch does.
        most: Tasks in a batch.
    """

    def __init__(
        self,
        work: Callable[[list[Task[_Asked, _Answer]]], None],
        is_close: Callable[[_Asked, _Asked], bool],
        most: int,
    ) -> None:
        self._work = work
        self._is_close = is_close
        self._most = most
        self._lock = threading.Lock()
        self._busy = False
        self._usual = 0.0  # how many came together lately, in this batch or for the next
        self._waiting: deque[Task[_Asked, _Answer]] = deque()

    def ask(self, asked: _Asked) -> _Answer:
        """Have something answered, in this thread or another."""
        task: Task[_Asked, _Answer] = Task(asked)
        is_queued = False
        try:
            with self._lock:
                if self._busy:
                    task.bell = bell_of_thread()
                    self._waiting.append(task)
                    is_queued = True
                self._busy = True
            if task.bell is not None:
                task.bell.wait()
        except BaseException:  # an interrupt
            if task.bell is not None:
                self._withdraw(task, task.bell, is_queued=is_queued)
            raise
        if task.answer is None and task.error is None:
            self._work_from(task)
        if task.answer is None:
            _raise(task)
        return task.answer

    def _withdraw(self, task: Task[_Asked, _Answer], bell: Bell, *, is_queued: bool) -> None:
        """Let the others go on without a task whose answer nobody waits for any more."""
        forget_bell()  # which may have been heard, or not
        with self._lock:
            if task in self._waiting:
                self._waiting.remove(task)
                return
        if not is_queued:
            return
        if not task.is_rung_for:
            bell.wait()
        if task.answer is None and task.error is None:  # its turn has come
            self._hand_over([])

    def _work_from(self, first: Task[_Asked, _Answer]) -> None:
        batch = [first]
        try:
            for _ in range(_MOST_YIELDS):
                if len(self._waiting) + 1 >= self._usual:
                    break
                _yield_core()
            batch += self._take_close(first.asked)
            self._work(batch)
        except Exception as error:  # noqa: BLE001 - handed on to every caller of the batch
            for task in batch:
                if task.answer is None and task.error is None:
                    task.error = error
        finally:
            # Also after an interrupt, which is not an Exception: the others must not wait for ever.
            self._hand_over(batch)
            for task in batch[1:]:
                _wake(task)

    def _hand_over(self, batch: list[Task[_Asked, _Answer]]) -> None:
        """Let the first who waits work on the batch after this."""
        with self._lock:
            self._usual = max(len(batch) + len(self._waiting), self._usual * _KEPT)
            following = self._waiting.popleft() if self._waiting else None
            self._busy = following is not None
        if following is not None:
            _wake(following)

    def _take_close(self, asked: _Asked) -> list[Task[_Asked, _Answer]]:
        """Take from those who wait what costs little beside ``asked``."""
        if not self._waiting:  # to look takes no lock, and who comes just now waits for the next
            return []
        taken: list[Task[_Asked, _Answer]] = []
        with self._lock:
            kept: deque[Task[_Asked, _Answer]] = deque()
            for task in self._waiting:
                close = len(taken) < self._most - 1 and self._is_close(asked, task.asked)
                (taken if close else kept).append(task)
            self._waiting = kept
        return taken


def _raise(task: Task[_Asked, _Answer]) -> Never:
    """Raise the error of a task, and let nothing hold it that its traceback holds."""
    error, task.error = task.error, None
    try:
        raise RuntimeError("there is no answer") if error is None else error
    finally:
        del error


def _wake(task: Task[_Asked, _Answer]) -> None:
    if task.bell is not None:
        task.is_rung_for = True
        task.bell.ring()
