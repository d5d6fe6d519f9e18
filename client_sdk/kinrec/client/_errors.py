"""The client's errors, and the one table that makes them from failed calls.

KinrecError
├── InvalidRequestError     a field breaks its rule; found before anything is sent, or by the server
├── UnknownUserError        the user id is not known, and neither events nor a state were given
├── StateError              the state is not one that the service takes; the history has to be sent
├── UnavailableError        no server could be reached, or none would take the call; retries included
├── DeadlineExceededError   no answer within the timeout
├── ServerError             every other failure, and answers that cannot be read
└── ClientClosedError       the client was closed before the call or during it
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc
from google.protobuf.message import DecodeError

# The package ships stubs without saying so by a py.typed.
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

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
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = violations

    @property
    def message(self) -> str:
        """The text."""
        return str(self)


class InvalidRequestError(KinrecError):
    """A field of the request breaks its rule; `violations` names both."""


class UnknownUserError(KinrecError):
    """The user id is not known to the model, and neither events nor a state were given."""


class StateError(KinrecError):
    """The state was changed, or is of a model or a key that is gone. Send the history instead."""


class UnavailableError(KinrecError):
    """No server could be reached, or none would take the call. It may succeed later."""


class DeadlineExceededError(KinrecError):
    """There was no answer within the timeout."""


class ServerError(KinrecError):
    """The call failed for a reason that the caller cannot mend."""


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
    (grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"): UnknownUserError,
    (grpc.StatusCode.UNAVAILABLE, ""): UnavailableError,
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "UNAVAILABLE"): UnavailableError,
    (grpc.StatusCode.DEADLINE_EXCEEDED, ""): DeadlineExceededError,
}


def invalid_field(field: str, rule: str) -> InvalidRequestError:
    """The error of a field that cannot be sent."""
    return InvalidRequestError(
        f"{field}: {rule}", reason="INVALID_FIELD", violations=(FieldViolation(field, rule),)
    )


def error_of(call: FailedCall, timeout: float, target: str) -> KinrecError:
    """The error of a call that failed.

    Args:
        call: The call, or what grpc raised for it.
        timeout: The seconds that it was given.
        target: Where the server should be.
    """
    code = call.code()
    reason, violations = _details_of(call)
    kind = _TABLE.get((code, reason)) or _TABLE.get((code, ""), ServerError)
    message = _one_line(call.details() or "") or f"the call ended with {code.name}"
    if kind is DeadlineExceededError:
        message = f"no answer within {timeout:g} s"
    elif kind is UnavailableError and message.startswith(_NOT_REACHED):
        message = f"no server could be reached at {target}"
    return kind(message, code=code, reason=reason, violations=violations)


def _details_of(call: FailedCall) -> tuple[str, tuple[FieldViolation, ...]]:
    """The reason and the violations; both empty if the server sent none that can be read."""
    # Not by dict(): the metadata of grpc.aio iterates over pairs and is not a dict's equal in every version.
    metadata = call.trailing_metadata() or ()
    data = next((value for key, value in metadata if key == _DETAILS_KEY), b"")
    reason = ""
    violations: list[FieldViolation] = []
    try:
        for detail in Status.FromString(data).details:
            info, bad_request = ErrorInfo(), BadRequest()
            if detail.Unpack(info) and info.domain == _DOMAIN:
                reason = info.reason
            if detail.Unpack(bad_request):
                violations.extend(
                    FieldViolation(violation.field, violation.description)
                    for violation in bad_request.field_violations
                )
    except DecodeError:  # the status and its text still tell what happened
        return reason, ()
    return reason, tuple(violations)


def _one_line(text: str) -> str:
    return " ".join(text.split())
