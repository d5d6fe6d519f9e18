"""The client's errors, and the one table that makes them from failed calls.

KinrecError
├── InvalidRequestError     a field breaks its rule; found before anything is sent, or by the server
├── UnknownUserError        the user id is not known, and neither events nor a state were given
├── UnknownItemError        the item that is asked about is not known
├── StateError              the state is not one that the service takes; the history has to be sent
├── PageTokenError          the page token is not one for this request; begin with the first page
├── UnauthenticatedError    the server asks who calls, and does not take the token, or there is none
├── PermissionDeniedError   the token is not allowed to make this call
├── RateLimitError          the token made more calls than it may; `retry_delay` says when to come again
├── UnavailableError        no server could be reached, or none would take the call; retries included
├── DeadlineExceededError   no answer within the timeout
├── ServerError             every other failure, and answers that cannot be read
├── StreamClosedError       the stream was closed, or something broke it before
└── ClientClosedError       the client was closed before the call or during it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import grpc
from google.protobuf.message import DecodeError

# The package ships stubs without saying so by a py.typed.
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DOMAIN = "kinrec"
_DETAILS_KEY = "grpc-status-details-bin"

# How gRPC itself begins where no server was reached; what follows is about sockets.
_NOT_REACHED = (
    "connections to all backends failing",
    "failed to connect to all addresses",
    "DNS resolution failed",
    "empty address list",
)
# What is in that text where a server was reached and TLS came to nothing; the first that fits.
_HANDSHAKES = {
    "certificate has expired": "its certificate has expired",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is of an authority that is not trusted",
    "Hostname Verification": "its certificate is for another name",
    "is not in peer certificate": "its certificate is for another name",  # of older versions
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "Socket closed": "it closed the connection, as a server does that takes only TLS, or wants another certificate",
}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A rule of a request that was broken.

    Attributes:
        field: The path of the field, e.g. ``events[3].time``.
        rule: What is wrong, e.g. ``must have a time zone``.
    """

    field: str
    rule: str


class KinrecError(Exception):
    """The root of all errors that the client raises on purpose. Its text is one readable line.

    Attributes:
        code: The status that the call ended with; None if it was not sent or the answer could not
            be read.
        reason: Why, as a name of ``kinrec.v1.ErrorReason`` without its prefix, e.g.
            ``"UNKNOWN_USER"``; empty if the server does not say.
        violations: The fields at fault and the rules they break.
        retry_delay: Seconds after which the call may be made again; None if the server does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_delay = retry_delay

    @property
    def message(self) -> str:
        """The text."""
        return str(self)


class InvalidRequestError(KinrecError):
    """A field of the request breaks its rule; `violations` names both."""


class UnknownUserError(KinrecError):
    """The user id is not known to the model, and neither events nor a state were given."""


class UnknownItemError(KinrecError):
    """The item that is asked about is not known to the model."""


class StateError(KinrecError):
    """The state was changed, or is of a model or a key that is gone. Send the history instead."""


class PageTokenError(KinrecError):
    """The page token is of another request, or of a model or a key that is gone. Begin anew."""


class UnauthenticatedError(KinrecError):
    """The server asks who calls, and there is no token or one that it does not take."""


class PermissionDeniedError(KinrecError):
    """The token is known, and is not allowed to make this call."""


class RateLimitError(KinrecError):
    """The token made more calls than it may; `retry_delay` says when the next one may come."""


class UnavailableError(KinrecError):
    """No server could be reached, or none would take the call. It may succeed later."""


class DeadlineExceededError(KinrecError):
    """There was no answer within the timeout."""


class ServerError(KinrecError):
    """The call failed for a reason that the caller cannot mend."""


class StreamClosedError(KinrecError):
    """The stream takes no more: it was closed, or an earlier message broke it."""


class ClientClosedError(KinrecError):
    """The client was closed before the call or during it."""

    def __init__(self, message: str = "the client is closed") -> None:
        super().__init__(message)


class FailedCall(Protocol):
    """What the errors of grpc and grpc.aio have in common."""

    def code(self) -> grpc.StatusCode:
        """The status code."""

    def details(self) -> str | None:
        """The text that came with it."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata that came with it."""


# By status code and reason, else by status code alone, else ServerError.
_TABLE: Mapping[tuple[grpc.StatusCode, str], type[KinrecError]] = {
    (grpc.StatusCode.INVALID_ARGUMENT, ""): InvalidRequestError,
    (grpc.StatusCode.INVALID_ARGUMENT, "STATE_INVALID"): StateError,
    (grpc.StatusCode.FAILED_PRECONDITION, "STATE_STALE"): StateError,
    (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"): PageTokenError,
    (grpc.StatusCode.FAILED_PRECONDITION, "PAGE_TOKEN_STALE"): PageTokenError,
    (grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"): UnknownUserError,
    (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ITEM"): UnknownItemError,
    (grpc.StatusCode.UNAUTHENTICATED, ""): UnauthenticatedError,
    (grpc.StatusCode.PERMISSION_DENIED, ""): PermissionDeniedError,
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"): RateLimitError,
    (grpc.StatusCode.UNAVAILABLE, ""): UnavailableError,
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "UNAVAILABLE"): UnavailableError,
    (grpc.StatusCode.DEADLINE_EXCEEDED, ""): DeadlineExceededError,
}

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Numbers of a later server are left out, and with them the one that is not used.
_REASONS = {
    number: name.removeprefix("ERROR_REASON_") for name, number in pb.ErrorReason.items() if number
}


def invalid_field(field: str, rule: str) -> InvalidRequestError:
    """The error of a field that cannot be sent."""
    return InvalidRequestError(
        f"{field}: {rule}", reason="INVALID_FIELD", violations=(FieldViolation(field, rule),)
    )


def error_of(call: FailedCall, timeout: float, target: str, note: str = "") -> KinrecError:
    """The error of a call that failed.

    Args:
        call: The call, or what grpc raised for it.
        timeout: The seconds that it was given.
        target: Where the server should be.
        note: What to say behind the message.
    """
    code = call.code()
    found = _details_of(call)
    kind = _kind_of(code, found.reason)
    message = _one_line(call.details() or "") or f"the call ended with {code.name}"
    if kind is DeadlineExceededError:
        return late_error(timeout, note)
    if kind is UnavailableError and message.startswith(_NOT_REACHED):
        why = next((f": {text}" for part, text in _HANDSHAKES.items() if part in message), "")
        message = f"no server could be reached at {target}{why}"
    return kind(
        message + note,
        code=code,
        reason=found.reason,
        violations=found.violations,
        retry_delay=found.retry_delay,
    )


def late_error(timeout: float, note: str = "") -> DeadlineExceededError:
    """The error of a call that had no answer in so many seconds."""
    return DeadlineExceededError(
        f"no answer within {timeout:g} s{note}", code=grpc.StatusCode.DEADLINE_EXCEEDED
    )


def error_of_failure(failure: pb.Failure) -> KinrecError:
    """The error of one of many requests: what the call would have raised for it alone."""
    code = _CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
    reason = _REASONS.get(failure.reason, "")
    message = _one_line(failure.message) or f"the call ended with {code.name}"
    violations: tuple[FieldViolation, ...] = ()
    if failure.field:
        rule = message.removeprefix(f"{failure.field}: ")
        violations = (FieldViolation(failure.field, rule),)
    return _kind_of(code, reason)(message, code=code, reason=reason, violations=violations)


def _kind_of(code: grpc.StatusCode, reason: str) -> type[KinrecError]:
    return _TABLE.get((code, reason)) or _TABLE.get((code, ""), ServerError)


class _Details(NamedTuple):
    """What a status carries beside its text."""

    reason: str = ""
    violations: tuple[FieldViolation, ...] = ()
    retry_delay: float | None = None


def _details_of(call: FailedCall) -> _Details:
    """The details; all are empty if the server sent none that can be read."""
    # Not by dict(): the metadata of grpc.aio iterates over pairs and is not a dict's equal in every version.
    metadata = call.trailing_metadata() or ()
    data = next((value for key, value in metadata if key == _DETAILS_KEY), b"")
    reason, retry_delay = "", None
    violations: list[FieldViolation] = []
    try:
        for detail in Status.FromString(data).details:
            info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
            if detail.Unpack(info) and info.domain == _DOMAIN:
                reason = info.reason
            if detail.Unpack(bad_request):
                violations.extend(
                    FieldViolation(violation.field, violation.description)
                    for violation in bad_request.field_violations
                )
            if detail.Unpack(retry):
                delay = retry.retry_delay
                retry_delay = delay.seconds + delay.nanos / 1e9
    except DecodeError:  # the status and its text still tell what happened
        return _Details(reason)
    return _Details(reason, tuple(violations), retry_delay)


def _one_line(text: str) -> str:
    return " ".join(text.split())
