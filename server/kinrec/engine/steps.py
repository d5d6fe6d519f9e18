"""Work in steps, between which that of another call can go on.

What is done for one person takes code and tables that do not all stay in a core's caches until it is
done for the next. So those who are worked on together take each step one after the other.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

from kinrec.engine.stages import listener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kinrec.engine.stages import Listener

_Made = TypeVar("_Made")

Steps = Generator[None, None, _Made]
"""Yields after each step but the last, and returns what was made."""


def finish(steps: Steps[_Made]) -> _Made:
    """Take all steps, and give what they make."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: _Made = end.value
            return made


def finish_together(each: Iterable[tuple[Listener, Steps[_Made]]]) -> list[_Made | Exception]:
    """Take each step of all before the next of any.

    Args:
        each: Who hears of it, and the steps.

    Returns:
        What each makes, or has raised, in order.
    """
    found: dict[int, _Made | Exception] = {}
    left = list(enumerate(each))
    while left:
        ahead = []
        for one in left:
            place, (heard_by, steps) = one
            listener.set(heard_by)
            try:
                next(steps)
            except StopIteration as end:
                found[place] = end.value
            except Exception as error:  # noqa: BLE001 - of one, which is not that of the others
                # Without this frame, which holds all that is found, and so the error: such a ring would
                # keep the requests and answers of all until a collection.
                found[place] = error.with_traceback(
                    error.__traceback__ and error.__traceback__.tb_next
                )
            else:
                ahead.append(one)
        left = ahead
    return [found[place] for place in range(len(found))]
