"""The log of calls: those that fail or are slow, a few a second, or all."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from kinrec.server.observability.calls import REQUEST_ID, Watcher

if TYPE_CHECKING:
    from kinrec.server.observability.calls import Call, Refused
    from kinrec.server.observability.observing import Observing

LINES_PER_SECOND = 10
_MOST_ITEM_IDS = 20

# What callers bring about. All else that fails is the server's.
_CALLERS_FAULTS = frozenset(
    {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
    }
)

# Of a code that otherwise says that the server has too much to do.
_CALLERS_REASONS = frozenset({"RATE_LIMITED"})

_log = logging.getLogger(__name__)


class CallLog(Watcher):
    """Logs calls.

    What fails or is slow is logged, at most ``LINES_PER_SECOND``, for it comes in floods: the next line
    says how many were left out. With ``log_calls`` all are logged.

    A call that is logged gets its request id as trailing metadata, unless it fails: then the status
    brings it.
    """

    def __init__(self, observing: Observing) -> None:
        self._observing = observing
        self._rate = _Rate(LINES_PER_SECOND)

    def answered(self, call: Call) -> None:
        """Log a slow message of a stream: the stream itself may be open for hours."""
        if call.is_stream and self._is_slow(call):
            self._write("slow message", logging.WARNING, call, {}, since=call.begun)

    def end(self, call: Call, code: str, reason: str) -> None:
        """Log the call if it is to be logged."""
        is_slow = not call.is_stream and self._is_slow(call)
        if reason == "INTERNAL" and not self._observing.log_calls:
            return  # its error is in the log already
        if not (is_slow or code != "OK" or self._observing.log_calls):
            return
        level = logging.WARNING if is_slow else _level_of(code, reason)
        what = {"code": code}
        if reason:
            what["reason"] = reason
        else:
            call.context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        self._write("slow call" if is_slow else "call", level, call, what, since=call.opened)

    def refused(self, refused: Refused) -> None:
        """Log it, with all that is known of a call that was not looked at."""
        left_out = self._rate.take()
        if left_out < 0:
            return
        fields: dict[str, Any] = {
            "request_id": refused.request_id,
            "trace_id": refused.find_trace_id(),
            "caller": refused.caller,
            "method": refused.method,
            "code": refused.code,
            "reason": refused.reason,
            "left_out": left_out,
        }
        fields = {name: value for name, value in fields.items() if value}
        _log.log(_level_of(refused.code, refused.reason), "call", extra=fields)

    def _is_slow(self, call: Call) -> bool:
        slow = self._observing.slow_call
        return slow is not None and call.seconds > slow

    def _write(
        self, text: str, level: int, call: Call, what: dict[str, Any], *, since: float
    ) -> None:
        left_out = 0 if self._observing.log_calls else self._rate.take()
        if left_out < 0 or not _log.isEnabledFor(level):
            return
        fields = {**fields_of(call, personal=self._observing.log_personal_data), **what}
        fields["duration_ms"] = _milliseconds(call.ended - since)
        if self._is_slow(call):
            fields["stages_ms"] = {
                stage: _milliseconds(seconds) for stage, seconds in call.stage_seconds().items()
            }
        if len(call.reports) > 1:
            fields["people"] = len(call.reports)
        if left_out:
            fields["left_out"] = left_out
        _log.log(level, text, extra=fields)


def fields_of(call: Call, *, personal: bool = False) -> dict[str, Any]:
    """Give what each line about a call says.

    Args:
        call: The call.
        personal: Whether it may tell whom it was about.
    """
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "trace_id": call.find_trace_id(),
        "caller": call.caller,
        "method": call.method,
        "model_version": call.model_version,
    }
    if personal:
        request = getattr(call.request, "start", call.request)
        fields["user_id"] = getattr(request, "user_id", "")
        events = list(getattr(request, "events", ()))[-_MOST_ITEM_IDS:]
        fields["item_ids"] = [getattr(event, "item_id", "") for event in events]
    return {name: value for name, value in fields.items() if value}


def _level_of(code: str, reason: str) -> int:
    """Give the level of a call that ended so."""
    is_callers = code in {"OK", *_CALLERS_FAULTS} or reason in _CALLERS_REASONS
    return logging.INFO if is_callers else logging.WARNING


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


class _Rate:
    """So many in each second, from all threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._second = 0.0
        self._taken = 0
        self._left_out = 0

    def take(self) -> int:
        """Take one; return how many could not be taken since the last, or -1 if this one cannot."""
        with self._lock:
            now = monotonic()
            if now - self._second >= 1.0:
                self._second, self._taken = now, 0
            if self._taken >= self._most:
                self._left_out += 1
                return -1
            self._taken += 1
            left_out, self._left_out = self._left_out, 0
            return left_out
