"""Counts and measures calls for Prometheus.

The thread of a call only writes down what happened. Another thread reads a few times a second what was
written and brings the metrics up to date, many calls at once: each by itself would cost the server
several times as much, with files for metrics above all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

from kinrec.server.observability import families
from kinrec.server.observability.calls import (
    STAGES,
    UNKNOWN_METHOD,
    Watcher,
    seconds_of_stages,
)
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeVar

    from kinrec.engine import EventReport
    from kinrec.server.line import Line
    from kinrec.server.observability.calls import Call, Refused

    _Said = TypeVar("_Said")

UPDATE_SECONDS = 0.2

_FATES = ("used", "unknown_item", "repeated", "truncated", "dropped")
_ODD = ("unknown_event_type", "late")

_log = logging.getLogger(__name__)


class _Answered(NamedTuple):
    """A call, or a message of a stream, that was answered; see ``Call``."""

    method: str
    begun: float
    ended: float
    marks: list[tuple[str, float]]
    reports: list[EventReport]
    batches: list[int]
    neighbours: list[int]


class Metrics(Watcher):
    """Keeps the metrics. A process makes one.

    Args:
        methods: The names of the service's methods.
        lines: In which calls wait.
    """

    def __init__(self, methods: Iterable[str], lines: Sequence[Line]) -> None:
        self._lines = lines
        # Of those that are called: each has a hundred values, in each worker.
        self._methods: dict[str, _MethodMetrics] = {}
        for method in methods:
            families.CALLS.labels(method, "OK")
        self._batch_sizes = families.BATCH_SIZE.tally()
        self._neighbours = families.NEIGHBOURS.tally()
        for reason in pb.ErrorReason.keys()[1:]:  # all but that of nothing
            families.ERRORS.labels(reason.removeprefix("ERROR_REASON_"))
        for fate in _FATES:
            families.EVENTS.labels(fate)
        for what in _ODD:
            families.ODD_EVENTS.labels(what)
        self._served: tuple[str, str] | None = None
        self._waiting = 0
        # Written by the threads of calls, read by the other. Their ends need no lock.
        self._refused: deque[tuple[str, str, str]] = deque()
        self._begun: deque[str] = deque()
        self._answered: deque[_Answered] = deque()
        self._ended: deque[tuple[str, str]] = deque()
        self._reasons: deque[str] = deque()
        threading.Thread(target=self._update_always, name="metrics", daemon=True).start()

    def begin(self, call: Call) -> None:
        """Note that the call is in flight."""
        self._begun.append(call.method)

    def answered(self, call: Call) -> None:
        """Note what the call, or the message of a stream, took."""
        self._answered.append(
            # Not the call itself, whose request can be large.
            _Answered(
                call.method,
                call.begun,
                call.ended,
                call.marks,
                call.reports,
                call.batches,
                call.neighbours,
            )
        )
        self._reasons.extend(call.reasons)

    def end(self, call: Call, code: str, reason: str) -> None:  # noqa: ARG002 - the reasons have it
        """Note how the call ended."""
        self._ended.append((call.method, code))
        self._reasons.extend(call.reasons)

    def refused(self, refused: Refused) -> None:
        """Note it."""
        self._refused.append((refused.method, refused.code, refused.reason))

    def unknown_method(self) -> None:
        """Count it, under one label for all."""
        families.CALLS.labels(UNKNOWN_METHOD, "UNIMPLEMENTED").inc()

    def serves(self, name: str, version: str) -> None:
        """Say so."""
        if self._served is not None:
            families.MODEL_INFO.labels(*self._served).set(0)
        self._served = (name, version)
        families.MODEL_INFO.labels(name, version).set(1)
        families.WORKERS.set(1)

    def _update_always(self) -> None:
        while True:
            time.sleep(UPDATE_SECONDS)
            try:
                self.update()
            except Exception:  # noqa: BLE001 - what is written down must go on being taken away
                _log.exception("metrics could not be brought up to date")

    def update(self) -> None:
        """Bring the metrics up to date. For one thread."""
        waiting = sum(line.waiting for line in self._lines)
        if waiting != self._waiting:
            self._waiting = waiting
            families.WAITING.set(waiting)
        # Taken before those that began: of none is the end known and the beginning not.
        ended = Counter(_taken(self._ended))
        for method, count in Counter(_taken(self._begun)).items():
            self._of(method).in_flight.inc(count)
        self._measure()
        for (method, code), count in ended.items():
            self._of(method).in_flight.dec(count)
            families.CALLS.labels(method, code).inc(count)
        reasons = Counter(_taken(self._reasons))
        for (method, code, reason), count in Counter(_taken(self._refused)).items():
            families.CALLS.labels(method, code).inc(count)
            if reason:
                reasons[reason] += count
        for reason, count in reasons.items():
            families.ERRORS.labels(reason).inc(count)

    def _of(self, method: str) -> _MethodMetrics:
        its = self._methods.get(method)
        if its is None:
            its = self._methods[method] = _MethodMetrics(method)
        return its

    def _measure(self) -> None:
        reports: list[EventReport] = []
        measured = set()
        for said in _taken(self._answered):
            its = self._of(said.method)
            measured.add(its)
            its.seconds.note(said.ended - said.begun)
            for stage, seconds in seconds_of_stages(said.marks, said.ended).items():
                its.stages[stage].note(seconds)
            its.people += len(said.reports)
            reports += said.reports
            for size in said.batches:
                self._batch_sizes.note(size)
            for count in said.neighbours:
                self._neighbours.note(count)
        for its in measured:
            its.write()
        self._batch_sizes.write()
        self._neighbours.write()
        if reports:
            _count_events(reports)


def _taken(said: deque[_Said]) -> Iterator[_Said]:
    """Take what is there now."""
    for _ in range(len(said)):
        yield said.popleft()


def _count_events(reports: list[EventReport]) -> None:
    sums = (sum(counts) for counts in zip(*reports, strict=True))
    _, used, unknown_item, repeated, truncated, unknown_type, late, dropped = sums
    fates = zip(_FATES, (used, unknown_item, repeated, truncated, dropped), strict=True)
    for fate, count in fates:
        if count:
            families.EVENTS.labels(fate).inc(count)
    for what, count in zip(_ODD, (unknown_type, late), strict=True):
        if count:
            families.ODD_EVENTS.labels(what).inc(count)


class _MethodMetrics:
    """What is kept of one method."""

    def __init__(self, method: str) -> None:
        self._people = families.PEOPLE.labels(method)
        self.people = 0  # not written yet
        self.in_flight = families.IN_FLIGHT.labels(method)
        self.seconds = families.CALL_SECONDS.labels(method).tally()
        self.stages = {
            stage: families.STAGE_SECONDS.labels(method, stage).tally() for stage in STAGES
        }

    def write(self) -> None:
        """Add what was noted since the last time."""
        self.seconds.write()
        for stage in self.stages.values():
            stage.write()
        if self.people:
            self._people.inc(self.people)
            self.people = 0
