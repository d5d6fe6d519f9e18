"""Puts together who is told of calls, by what the operator wants to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinrec.server.observability.call_log import CallLog
from kinrec.server.observability.calls import Calls
from kinrec.server.observability.tracing import find_tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.server.line import Line
    from kinrec.server.observability.calls import Watcher
    from kinrec.server.observability.observing import Observing


def watch_calls(
    observing: Observing, service: str, methods: Sequence[str], lines: Sequence[Line]
) -> Calls:
    """Give the calls of a service.

    Args:
        observing: What is to be seen.
        service: The full name of the service.
        methods: The names of its methods.
        lines: In which calls wait.
    """
    watchers: list[Watcher] = [CallLog(observing)]
    if observing.metrics_address:
        # Imported here: prometheus_client decides by the environment where values are kept.
        from kinrec.server.observability.metrics import Metrics  # noqa: PLC0415

        watchers.append(Metrics(methods, lines))
    tracing = find_tracing(service)
    if tracing is not None:
        watchers.append(tracing)
    wants_times = len(watchers) > 1 or observing.slow_call is not None
    return Calls(watchers, service, methods, wants_times=wants_times)
