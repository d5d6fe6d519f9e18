"""Admission: how much work may wait, and what is told to the calls beyond that.

What a call costs is known only when it is done, so the queue is bounded by time: by how many calls
wait and by how fast those before them left it, which is an estimate of how fast these will. A call that
would wait too long, or have its answer after its deadline, is refused at once. That takes a small part of
what its answer would, so a server that is offered more than it can do goes on doing what it can.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from kinrec.server.errors import OverloadedError, status_of
from kinrec.server.inner_grpc.gate import Status
from kinrec.server.observability.calls import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kinrec.server.inner_grpc.gate import Metadata
    from kinrec.server.line import Line

_MOST_WAITING = 10_000  # whatever the speed, for each holds memory
# Unless it is said how long calls may wait: as long as so many take, within these bounds, so that
# neither a slow model nor a busy machine refuses callers of a usual number.
_USUAL_BURST = 100
_TOLD = "the server has more calls than it can answer in time"
_LEAST_TOLD = 0.01  # seconds after which to come again
_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 1.0
_USUAL_BATCHES = 32  # and so many batches, however long they take, or for so many seconds
_WAIT_OF_BATCHES = 0.25


class Limit:
    """How long calls may wait in a line.

    Args:
        line: The line.
        longest_wait: Gives the longest wait, in seconds, from how long one of them takes.
        reading: The line whose thread reads what comes.
    """

    def __init__(self, line: Line, longest_wait: Callable[[float], float], reading: Line) -> None:
        self._line = line
        self._longest_wait = longest_wait
        self._reading = reading
        # Since the last turn of either line: how many were let in, how many had come into the line before,
        # and what is told once it is too long, which it stays.
        self._since = -1, -1
        self._let_in = self._came = 0
        self._full: Status | None = None

    @classmethod
    def of_calls(cls, line: Line, max_wait: float | None) -> Limit:
        """Give that of calls: so many seconds, or if None what goes by how long they take."""
        longest_wait = _longest_wait if max_wait is None else lambda _step: max_wait
        return cls(line, longest_wait, line)

    @classmethod
    def of_batches(cls, line: Line, reading: Line, max_wait: float | None) -> Limit:
        """Give that of batches, of which one may take longer than calls may wait: some wait all the same.

        Args:
            line: The line.
            reading: The line whose thread reads what comes.
            max_wait: See ``of_calls``.
        """
        least = _WAIT_OF_BATCHES if max_wait is None else max_wait
        return cls(line, lambda step: max(least, _USUAL_BATCHES * step), reading)

    def check(self, time_left: float) -> Status | None:
        """Say how a call ends that comes now, if it would wait too long; None for one that may wait.

        Args:
            time_left: The seconds in which it must be answered.
        """
        line = self._line
        since = line.turn, self._reading.turn
        if since != self._since:
            self._since, self._let_in, self._came, self._full = since, 0, line.came, None
        elif self._full is not None:
            return self._full
        # Of some that were let in the messages have yet to be read, or never come.
        waiting = line.waiting + max(self._let_in - (line.came - self._came), 0)
        wait = line.expected_wait(waiting)
        if wait > self._longest_wait(line.step) or waiting > _MOST_WAITING:
            self._full = _told(wait)
            return self._full
        answer = line.expected_answer(waiting)
        # To work on it would be for nobody, and make those after it late as well.
        if answer > time_left:
            return _told(answer)
        self._let_in += 1
        return None


class Admission:
    """Refuses calls that would wait too long; those of other services, as of health, are let by.

    Args:
        limits: Where they would wait, by the full names of the methods. (Streams do not wait, but take
            of the time of those that do, so there are no more of them when the line of calls is too long.)
        note: Is told of each call that is refused: its method, what it came with, the code, the reason,
            who calls. It gives the id of the call.
        caller_of: Says who calls a method with such metadata; None if the call will be refused for that.
            None where nobody needs to say who they are.
    """

    def __init__(
        self,
        limits: Mapping[str, Limit],
        note: Callable[[str, Metadata, str, str, str], str],
        caller_of: Callable[[str, Metadata], str | None] | None = None,
    ) -> None:
        self._limits = limits
        self._note = note
        self._caller_of = caller_of

    def refuse(self, method: str, metadata: Metadata, time_left: float) -> Status | None:
        """Say how a call ends; None if it is let in. See ``Gate``."""
        limit = self._limits.get(method)
        told = None if limit is None else limit.check(time_left)
        if told is None:
            return None
        caller = "" if self._caller_of is None else self._caller_of(method, metadata)
        if caller is None:
            return None
        request_id = self._note(method, metadata, "RESOURCE_EXHAUSTED", "UNAVAILABLE", caller)
        return Status(told.code, told.details, (*told.metadata, (REQUEST_ID, request_id)))


def _longest_wait(step: float) -> float:
    return min(max(_SHORTEST_WAIT, _USUAL_BURST * step), _LONGEST_WAIT)


def _told(wait: float) -> Status:
    """Give what a call is told that would have to wait so many seconds."""
    return _told_rounded(round(max(wait, _LEAST_TOLD), 2))


@lru_cache(maxsize=64)
def _told_rounded(wait: float) -> Status:
    return status_of(OverloadedError(_TOLD, wait))
