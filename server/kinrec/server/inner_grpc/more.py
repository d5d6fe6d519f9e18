"""Asks gRPC for several calls of a method at a time.

gRPC gives a call for each time that it is asked, and asks again for one when it has handled one.
"""

# ruff: noqa: SLF001 - it is what this package is for

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kinrec.server.inner_grpc.known import server

if TYPE_CHECKING:
    from collections.abc import Hashable


class _Due(Counter["Hashable"]):
    """What a server awaits, in place of the set of gRPC's, which can hold a method once."""

    def add(self, tag: Hashable) -> None:
        """Await something once more."""
        self[tag] += 1

    def remove(self, tag: Hashable) -> None:
        """Await something once less."""
        if self[tag] < 1:
            raise KeyError(tag)
        self[tag] -= 1
        if not self[tag]:
            del self[tag]


def ask_for_more(state: Any, count: int) -> None:  # noqa: ANN401 - gRPC's own
    """Have a server ask for so many calls of each method at a time, unless it has stopped already."""
    with state.lock:
        if state.stage is server._ServerStage.STARTED:
            state.due = _Due(state.due)
            for method in state.registered_method_handlers:
                for _ in range(count - 1):
                    server._request_registered_call(state, method)
