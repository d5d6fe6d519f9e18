"""Has what several calls ask at the same time worked on together, in the one thread that runs them.

Threads that compute side by side on one core take the interpreter's lock and the core's caches from
each other at every step, and whoever waits for an answer must be woken. So one thread runs the calls
that came at the same time, each in a greenlet: until it asks; then the next. When all have asked, the
first step of the work is done for all, then the second for all, and each call goes on with its answer.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Never

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class Task(Generic[_Asked, _Answer]):
    """What a call asks, and where it finds the answer.

    Attributes:
        asked: What is asked.
        answer: Set by who has worked on it; None until then.
        error: Set instead if there is no answer.
    """

    __slots__ = ("answer", "asked", "error")

    def __init__(self, asked: _Asked) -> None:
        self.asked = asked
        self.answer: _Answer | None = None
        self.error: BaseException | None = None


class _Run:
    """Calls that one thread runs together.

    Attributes:
        runner: What runs them, to go on with when a call has asked.
        asked: What they have asked, and of whom.
    """

    def __init__(self) -> None:
        self.runner = getcurrent()
        self.asked: list[tuple[Batching[Any, Any], Task[Any, Any]]] = []


class _OfThread(threading.local):
    """What this thread runs together; None if nothing."""

    run: _Run | None = None


_of_thread = _OfThread()


class Batching(Generic[_Asked, _Answer]):
    """Works on what calls that are run together ask, in batches; and on what else is asked one by one.

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
        # Whoever computes beside another is in its way; who makes an answer may ask again.
        self._working = threading.RLock()

    def ask(self, asked: _Asked) -> _Answer:
        """Ask, and wait for the answer.

        Raises:
            Exception: What the work raised, or set as the error.
        """
        task: Task[_Asked, _Answer] = Task(asked)
        run = _of_thread.run
        if run is None:
            with self._working:
                self._work([task])
        else:
            run.asked.append((self, task))
            run.runner.switch()
        if task.answer is None:
            _raise(task)
        return task.answer

    def _work_on(self, tasks: list[Task[_Asked, _Answer]]) -> None:
        """Work on all: the first and those that are close to it, then the first of the rest, and so on."""
        while tasks:
            first = tasks[0].asked
            batch: list[Task[_Asked, _Answer]] = []
            rest: list[Task[_Asked, _Answer]] = []
            for task in tasks:
                is_in = len(batch) < self._most and self._is_close(first, task.asked)
                (batch if is_in else rest).append(task)
            try:
                with self._working:
                    self._work(batch)
            except BaseException as error:  # noqa: BLE001 - handed on to every call of the batch
                for task in batch:
                    if task.answer is None and task.error is None:
                        task.error = error
            tasks = rest


class _Strand(greenlet):
    """Runs one call after the other.

    A greenlet takes pages for its stack from the system when it begins, and gives them back at its end:
    for each call anew that would be a fiftieth of what one takes.

    Attributes:
        call: What to run when it is switched to; None when that has ended.
    """

    call: Callable[[], object] | None = None

    def run(self) -> None:
        """Run what it is given, until it is given nothing."""
        runner = self.parent or self  # None only of the greenlet that a thread begins with
        while self.call is not None:
            self.call()
            self.call = None
            runner.switch()


class Runner:
    """Runs calls together. For one thread, which also ends it."""

    def __init__(self) -> None:
        self._idle: list[_Strand] = []

    def run(self, calls: Sequence[Callable[[], object]]) -> None:
        """Run calls in this thread until all have ended.

        Args:
            calls: None of them raises.
        """
        if len(calls) == 1:
            calls[0]()
            return
        strands = [self._idle.pop() if self._idle else _Strand() for _ in calls]
        for strand, call in zip(strands, calls, strict=True):
            strand.call = call
        running = strands
        while running:
            run = _of_thread.run = _Run()
            try:
                for strand in running:
                    strand.switch()  # until it asks, or ends
            finally:
                _of_thread.run = None
            running = [strand for strand in running if strand.call is not None]
            of_each: dict[Batching[Any, Any], list[Task[Any, Any]]] = {}
            for batching, task in run.asked:
                of_each.setdefault(batching, []).append(task)
            for batching, tasks in of_each.items():
                batching._work_on(tasks)  # noqa: SLF001 - of this module
        self._idle += strands

    def end(self) -> None:
        """Give back what it keeps for the next calls."""
        for strand in self._idle:
            strand.switch()
        self._idle.clear()


def _raise(task: Task[Any, Any]) -> Never:
    """Raise the error of a task, and let nothing hold it that its traceback holds."""
    error, task.error = task.error, None
    try:
        raise RuntimeError("there is no answer") if error is None else error
    finally:
        del error
