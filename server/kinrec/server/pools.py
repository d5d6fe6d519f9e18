"""Thread pools of their own for the calls that must not wait for, or hold up, the others."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kinrec.server.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


def in_pool(
    pool: ThreadPoolExecutor, behaviour: Callable[_Params, _Result], *, non_blocking: bool = False
) -> Callable[_Params, _Result]:
    """Return the behaviour of a method, marked to run in a pool of its own.

    grpcio reads the marks from the function; grpcio-health-checking relies on them as well.

    Args:
        pool: The threads to run in.
        behaviour: The method of a servicer.
        non_blocking: For a stream of responses: gRPC passes a function that sends, and the stream
            stays open after the behaviour has returned.
    """

    def marked(*args: _Params.args, **kwargs: _Params.kwargs) -> _Result:
        return behaviour(*args, **kwargs)

    marks = {"experimental_thread_pool": pool, "experimental_non_blocking": non_blocking}
    marked.__dict__.update(marks)
    return marked


class Places:
    """So many places for calls that stay.

    Args:
        count: How many.
        of: What takes one, in the plural, for the error.
    """

    def __init__(self, count: int, of: str) -> None:
        self._places = threading.BoundedSemaphore(count)
        self._full = f"{count} {of} are open already, no more are taken"

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            OverloadedError: None is free.
        """
        if not self._places.acquire(blocking=False):
            raise OverloadedError(self._full)
        try:
            yield
        finally:
            self._places.release()
