"""Takes the calls that gRPC submits, and has them wait in line."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kinrec.server.inner_grpc import known
from kinrec.server.inner_grpc.held import DONE, due_of
from kinrec.server.inner_grpc.reader import WorkedPool
from kinrec.server.observability.calls import note_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from kinrec.server.inner_grpc.held import Held
    from kinrec.server.line import Line

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class CallPool(WorkedPool):
    """The calls of a server, worked on by the thread that reads them, together those that have come.

    It is for gRPC alone: to whoever submits a call it does not say what became of it. A call begins to
    wait when its message has come. (Where gRPC is not known, as many threads as calls may be worked on
    together take one each, as gRPC has it, and nothing is known of how long they wait.)

    Args:
        line: In which they wait.
        held: The calls whose message has not come.
    """

    def __init__(self, line: Line, held: Held) -> None:
        super().__init__(line.most)  # which has no thread until something is submitted to it
        self._held = held
        self.work: Line = line

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:  # noqa: ANN401
        """Have a call worked on when its turn comes.

        Returns:
            A future that is done already and has no result.
        """
        came = time.monotonic()
        due = due_of(args, came)

        def wait(arguments: tuple[Any, ...]) -> None:
            call = partial(fn, *arguments, **kwargs)
            self.work.put(partial(_run, came, time.monotonic(), due, call))

        if not (self.work.has_begun and known.IS_KNOWN):
            super().submit(_run, came, came, due, partial(fn, *args, **kwargs))
        elif not self._held.hold(args, wait):
            wait(args)
        return DONE


class ThreadedCallPool(CallPool):
    """Calls that are worked on by a thread of their own; for the rest see ``CallPool``."""

    def __init__(self, line: Line, held: Held) -> None:
        super().__init__(line, held)
        self._thread = threading.Thread(target=self.work.do_all, name="calls", daemon=True)
        self._thread_ends = weakref.finalize(self, self.work.stop)
        self._thread_ends.atexit = False  # the line sees to the end of the process
        self.work.begin()
        self._thread.start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Let the thread end when all that was submitted is done."""
        self._thread_ends()
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._thread.join()


def _run(came: float, received: float, due: float, call: Callable[[], object]) -> None:
    note_times(came, received, due)
    try:
        call()
    except BaseException:  # noqa: BLE001 - gRPC catches what its methods raise
        _log.exception("a call failed outside its method")
