"""What the engine says of its work while it works, to whoever listens in the context of a call.

Nothing that is said, and nobody who hears it, changes an answer.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinrec.engine._types import EventReport

TURN = "turn"
"""The question waits for those that are worked on before it, or answered with it."""
READ = "read"
"""The person is read: the request is checked, ids are looked up, histories joined."""
ENCODE = "encode"
"""The encoder runs, or is waited for. Of questions that are worked on together this stage and the next
are those of all, who take each step one after the other."""
SEARCH = "search"
"""Indexes are searched, and what the sources say is mixed and arranged."""
ANSWER = "answer"
"""The answer is put together."""


class Listener:
    """Hears of the engine's work, in the thread that asked; this one makes nothing of it."""

    __slots__ = ()

    def enter(self, stage: str) -> str:  # noqa: ARG002 - others use it
        """A stage begins, and so the one before it ends, whose name is returned."""
        return ""

    def note_events(self, report: EventReport) -> None:
        """What became of the events of a person has been found."""

    def note_batch(self, size: int) -> None:
        """The encoder runs over so many histories at once."""

    def note_neighbours(self, count: int) -> None:
        """So many neighbours of a person have been found."""


listener: ContextVar[Listener] = ContextVar("listener", default=Listener())  # noqa: B039 - holds nothing
