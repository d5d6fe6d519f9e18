"""Thread pools of their own for the calls that must not wait for, or hold up, the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
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
