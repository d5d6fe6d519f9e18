"""The calls of the recommender service while they are answered, and who is told of them."""

from __future__ import annotations

import math
import random
import re
import threading
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from kinrec.engine.stages import ANSWER, ENCODE, READ, SEARCH, TURN, Listener, listener

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import grpc

    from kinrec.engine import EventReport
    from kinrec.server.inner_grpc.gate import Metadata

RECEIVE = "receive"
"""The request is read from the network."""
QUEUE = "queue"
"""The call waits for its turn."""
DECODE = "decode"
"""The request is decoded and converted."""
STAGES = (RECEIVE, QUEUE, DECODE, TURN, READ, ENCODE, SEARCH, ANSWER)

UNKNOWN_METHOD = "unknown"
"""Stands for all methods that the service does not have."""

REQUEST_ID = "x-request-id"
_TRACE_PARENT = "traceparent"

# What a log, a header and a support ticket can hold as it is. An @ would let an address in.
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")

caller: ContextVar[str] = ContextVar("caller", default="")
"""The name of the token with which the running call came; empty if it has none."""

_current: ContextVar[Call | None] = ContextVar("call", default=None)


class _OfThread(threading.local):
    """The times of the call that this thread has begun last."""

    times = (0.0, 0.0, math.inf)


_of_thread = _OfThread()


def note_times(came: float, received: float, due: float) -> None:
    """Note of the call that this thread begins now, by the monotonic clock, what became of it before.

    Args:
        came: When it came.
        received: When its message did.
        due: Its deadline.
    """
    _of_thread.times = came, received, due


class Call(Listener):
    """A call of the recommender service. Of a stream each message begins anew what is said of one.

    Attributes:
        method: The name of the method.
        context: What gRPC knows of the call, until it has ended.
        request: The request, the last one of a stream; None until it is decoded.
        caller: The name of the token with which it came; empty if it has none.
        is_stream: Whether the caller sends several.
        due: Its deadline, as ``time.monotonic`` gives it; infinite of a stream, of which gRPC knows it.
        opened: When it began, likewise.
        begun: When it, or a message of a stream, came, as ``time.monotonic`` gives it.
        ended: When it was answered, likewise; 0 until then.
        marks: The stages that were entered, and when; a stage can be entered several times.
        model_version: Of the model that answered; empty if none did.
        reports: What became of the events of the people.
        batches: Over how many histories at once the encoder ran.
        neighbours: How many neighbours were found in each search.
        reasons: Of the failures that nobody was told of yet, the call's own or those of its parts.
        trace_id: Of the trace that it is part of; empty if of none.
    """

    __slots__ = (
        "_request_id",
        "_stage",
        "batches",
        "begun",
        "caller",
        "context",
        "due",
        "ended",
        "is_stream",
        "marks",
        "method",
        "model_version",
        "neighbours",
        "opened",
        "reasons",
        "reports",
        "request",
        "trace_id",
    )

    def __init__(
        self, method: str, context: grpc.ServicerContext, *, is_stream: bool = False
    ) -> None:
        self.method = method
        self.context = context
        self.is_stream = is_stream
        self.due = math.inf
        self.caller = caller.get()
        self.model_version = ""
        self.trace_id = ""
        self._request_id = ""
        self.renew()
        self.opened = self.begun

    def renew(self) -> None:
        """Begin anew, with another message."""
        self.begun = monotonic()
        self.ended = 0.0
        self._stage = DECODE
        self.marks: list[tuple[str, float]] = [(DECODE, self.begun)]
        self.request: object = None
        self.reports: list[EventReport] = []
        self.batches: list[int] = []
        self.neighbours: list[int] = []
        self.reasons: list[str] = []

    def has_waited(self, came: float, received: float) -> None:
        """Say when it came and when its message did, as ``time.monotonic`` gives it."""
        self.begun = self.opened = came
        self.marks = [(RECEIVE, came), (QUEUE, received), *self.marks]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun

    @property
    def request_id(self) -> str:
        """What the caller calls it; if that cannot be used, a random id."""
        if not self._request_id:
            self._request_id = _request_id_of(self.context.invocation_metadata())
        return self._request_id

    def find_trace_id(self) -> str:
        """Give the trace id, by the caller's word if there is no other."""
        if not self.trace_id:
            self.trace_id = _trace_id_of(self.context.invocation_metadata())
        return self.trace_id

    def spans(self) -> Iterator[tuple[str, float, float]]:
        """Give each stage with its begin and its end, as ``time.monotonic`` gives them."""
        ends = [begin for _, begin in self.marks[1:]]
        for (stage, begin), end in zip(self.marks, [*ends, self.ended], strict=True):
            yield stage, begin, end

    def stage_seconds(self) -> dict[str, float]:
        """Give how long each stage took in all."""
        return seconds_of_stages(self.marks, self.ended)

    def enter(self, stage: str) -> str:
        """See ``Listener``."""
        before = self._stage
        if stage != before:
            self._stage = stage
            self.marks.append((stage, monotonic()))
        return before

    def note_events(self, report: EventReport) -> None:
        """See ``Listener``."""
        self.reports.append(report)

    def note_batch(self, size: int) -> None:
        """See ``Listener``."""
        self.batches.append(size)

    def note_neighbours(self, count: int) -> None:
        """See ``Listener``."""
        self.neighbours.append(count)


class Refused(NamedTuple):
    """A call that ended before it was begun: it was refused, or its caller has gone.

    Attributes:
        method: The name of the method; ``UNKNOWN_METHOD`` for all that do not exist.
        code: The status code.
        reason: As the name of an ``ErrorReason`` without its prefix; empty if its caller has gone.
        caller: The name of the token with which it came; empty if it has none that is known.
        request_id: As of ``Call``.
        metadata: What it came with.
    """

    method: str
    code: str
    reason: str
    caller: str
    request_id: str
    metadata: Metadata

    def find_trace_id(self) -> str:
        """Give the trace id by the caller's word; empty if there is none."""
        return _trace_id_of(self.metadata)


class Watcher:
    """Is told of calls, each by the thread that answers it; this one makes nothing of them."""

    def begin(self, call: Call) -> None:
        """A call begins."""

    def answered(self, call: Call) -> None:
        """A call, or a message of a stream, has its answer."""

    def end(self, call: Call, code: str, reason: str) -> None:
        """A call ends with a status code, e.g. ``OK``, and if it fails with a reason."""

    def refused(self, refused: Refused) -> None:
        """A call ended before it was begun."""

    def unknown_method(self) -> None:
        """A method was called that the server does not have."""

    def serves(self, name: str, version: str) -> None:
        """From now on this version of this model is served."""


class Calls:
    """All calls of the recommender service.

    Args:
        watchers: Are told of them.
        service: The full name of the service.
        methods: The names of its methods.
        wants_times: Whether anybody wants to know what takes how long.
    """

    def __init__(
        self,
        watchers: Iterable[Watcher] = (),
        service: str = "",
        methods: Iterable[str] = (),
        *,
        wants_times: bool = False,
    ) -> None:
        self._methods = {f"/{service}/{method}": method for method in methods}
        self._watchers = tuple(watchers)
        self._wants_times = wants_times

    def begin(self, method: str, context: grpc.ServicerContext, *, is_stream: bool = False) -> Call:
        """Begin a call in this thread, and make it the current one."""
        call = Call(method, context, is_stream=is_stream)
        _current.set(call)
        came, received, due = _of_thread.times
        if not is_stream:
            call.due = due
        if self._wants_times:
            listener.set(call)
            if not is_stream:
                call.has_waited(came, received)
        for watcher in self._watchers:
            watcher.begin(call)
        return call

    def answered(self, call: Call) -> None:
        """Note that a call, or a message of a stream, has its answer."""
        call.ended = monotonic()
        for watcher in self._watchers:
            watcher.answered(call)
        call.reasons.clear()

    def end(self, call: Call, code: str = "", reason: str = "") -> None:
        """Note that a call ends.

        Args:
            call: The call.
            code: With what status it fails; empty if it does not.
            reason: Why, as the name of an ``ErrorReason`` without its prefix.
        """
        call.ended = monotonic()
        if self._watchers:
            code = code or _code_of(call)
            for watcher in self._watchers:
                watcher.end(call, code, reason)
        # It holds the variable that holds the call: nothing of either would go before a collection.
        del call.context

    def refused(
        self, method: str, metadata: Metadata, code: str, reason: str, name: str = ""
    ) -> str:
        """Note that a call ended before it was begun.

        Args:
            method: The full name of what was called, which need not exist.
            metadata: What the call came with.
            code: The status code.
            reason: As of ``end``; empty if its caller has gone.
            name: Of the token with which it came; if empty that of the running call.

        Returns:
            Its request id.
        """
        method = self._methods.get(method, UNKNOWN_METHOD)
        request_id = _request_id_of(metadata)
        refused = Refused(method, code, reason, name or caller.get(), request_id, metadata)
        for watcher in self._watchers:
            watcher.refused(refused)
        return request_id

    def unknown_method(self) -> None:
        """Note that a method was called that the server does not have."""
        for watcher in self._watchers:
            watcher.unknown_method()

    def serves(self, name: str, version: str) -> None:
        """Note that from now on this version of this model is served."""
        for watcher in self._watchers:
            watcher.serves(name, version)


def seconds_of_stages(marks: list[tuple[str, float]], ended: float) -> dict[str, float]:
    """Give how long each stage took in all.

    Args:
        marks: Which were entered, and when, in order.
        ended: When the last one ended.
    """
    found: dict[str, float] = {}
    last, since = marks[0]
    for stage, begin in marks[1:]:
        found[last] = found.get(last, 0.0) + begin - since
        last, since = stage, begin
    found[last] = found.get(last, 0.0) + ended - since
    return found


def current_call() -> Call | None:
    """Give the call of the recommender service that this thread answers; None if it answers none."""
    return _current.get()


def is_late() -> bool:
    """Say whether the deadline of the current call has passed."""
    call = _current.get()
    return call is not None and monotonic() > call.due


def note_failure(reason: str) -> None:
    """Note a failure of the current call, or of one of its parts."""
    call = _current.get()
    if call is not None:
        call.reasons.append(reason)


def note_version(version: str) -> None:
    """Note which version answers the current call."""
    call = _current.get()
    if call is not None:
        call.model_version = version


def _request_id_of(metadata: Metadata) -> str:
    """Give what the caller calls it; if that cannot be used, a random id."""
    theirs = _value_of(metadata, REQUEST_ID)
    # Whoever guesses a random one has nothing of it, so it need not cost a call of the system.
    return theirs if theirs and _SANE_ID.fullmatch(theirs) else f"{random.getrandbits(128):032x}"


def _trace_id_of(metadata: Metadata) -> str:
    found = _TRACE.fullmatch(_value_of(metadata, _TRACE_PARENT))
    return found.group(1) if found else ""


def _value_of(metadata: Metadata, key: str) -> str:
    for name, value in metadata:
        if name == key and isinstance(value, str):
            return value
    return ""


def _code_of(call: Call) -> str:
    """Give how a call ends that did not fail: its deadline may have passed, or its caller have gone."""
    if monotonic() > call.due:
        return "DEADLINE_EXCEEDED"
    if call.context.is_active():
        return "OK"
    return "CANCELLED" if call.context.time_remaining() > 0 else "DEADLINE_EXCEEDED"
