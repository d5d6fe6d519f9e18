"""Answers the questions of many calls: those that are run together, step by step together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kinrec.engine.blend import encode_together
from kinrec.engine.encoder import MAX_BATCH
from kinrec.engine.stages import ANSWER, ENCODE, TURN, Listener, listener
from kinrec.engine.steps import finish, finish_together
from kinrec.engine.together import Batching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kinrec.engine.encoder import Encoder
    from kinrec.engine.options import Query
    from kinrec.engine.steps import Steps
    from kinrec.engine.subject import Subject
    from kinrec.engine.together import Task

    _Plan = TypeVar("_Plan")
    _Answer = TypeVar("_Answer")

_FEW = 4  # events more or less that make no difference to how long a question takes


class _Question(NamedTuple):
    """See ``Questions.ask``; the last is who hears of the work."""

    query: Query
    read: Callable[[Query], tuple[Any, Subject]]
    answer: Callable[[Any, Subject], Steps[Any]]
    heard_by: Listener

    def is_close(self, other: _Question) -> bool:
        """Whether neither has many more events than the other."""
        one, two = len(self.query.events), len(other.query.events)
        return one <= 2 * two + _FEW and two <= 2 * one + _FEW


class Questions:
    """Answers questions about people.

    Args:
        encoder: Encodes the people whom it is asked about at the same time in one run.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._together: Batching[_Question, tuple[Any]] = Batching(
            self._work, _Question.is_close, MAX_BATCH
        )

    def ask(
        self,
        query: Query,
        read: Callable[[Query], tuple[_Plan, Subject]],
        answer: Callable[[_Plan, Subject], Steps[_Answer]],
    ) -> _Answer:
        """Answer a question.

        Args:
            query: The question.
            read: Finds the person, and anything else that the answer takes.
            answer: Makes the answer of what was found.

        Raises:
            EngineError: What ``read`` and ``answer`` raise.
        """
        heard_by = listener.get()
        heard_by.enter(TURN)
        made: _Answer
        (made,) = self._together.ask(_Question(query, read, answer, heard_by))
        heard_by.enter(ANSWER)
        return made

    def _work(self, tasks: Sequence[Task[_Question, tuple[Any]]]) -> None:
        """Read all people, encode them together, and then make an answer for each."""
        own = listener.get()
        try:
            if len(tasks) == 1:
                (task,) = tasks
                listener.set(task.asked.heard_by)
                steps = task.asked.answer(*task.asked.read(task.asked.query))
                task.answer = (finish(steps),)
            else:
                self._work_together(tasks, own)
        finally:
            listener.set(own)

    def _work_together(self, tasks: Sequence[Task[_Question, tuple[Any]]], own: Listener) -> None:
        read: list[tuple[Task[_Question, tuple[Any]], tuple[Any, Subject]]] = []
        for task in tasks:
            listener.set(task.asked.heard_by)
            try:
                read.append((task, task.asked.read(task.asked.query)))
            except Exception as error:  # noqa: BLE001 - raised again where it was asked
                task.error = error
            task.asked.heard_by.enter(ENCODE)
        listener.set(own)
        people = [subject.person for _, (_, subject) in read if subject.has_history]
        encode_together(self._encoder, people)
        each = [(task.asked.heard_by, task.asked.answer(*found)) for task, found in read]
        for (task, _), made in zip(read, finish_together(each), strict=True):
            task.asked.heard_by.enter(TURN)  # others may be worked on before it goes on
            if isinstance(made, Exception):
                task.error = made
            else:
                task.answer = (made,)
