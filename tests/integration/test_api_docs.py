"""What docs/api.md says of errors is what the server and the SDK do.

`make check` sees that it is up to date.
"""

import re
from pathlib import Path

import grpc
import pytest

from kinrec import client, engine
from kinrec.client._errors import error_of
from kinrec.server.errors import OverloadedError, failure_of
from kinrec.server.pages import InvalidPageTokenError, StalePageTokenError
from kinrec.v1 import recommender_pb2 as pb

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
REASONS, _, TRANSPORT = PAGE.partition("### ErrorReason")[2].partition("### Statuses")

# The columns: reason, status, and the error with which the last one begins.
WITH_REASON = re.findall(r"(?m)^\| `(\w+)` \| `(\w+)` \|.*\| Raises (\w+)[^|]*\|$", REASONS)
WITHOUT_REASON = re.findall(r"(?m)^\| `(\w+)` \|.*\| [^|]*?[Rr]aises (\w+)[^|]*\|$", TRANSPORT)

RAISED = [
    engine.InvalidFieldError("limit", "is wrong"),
    engine.NoSubjectError(),
    engine.UnknownUserError(),
    engine.InvalidStateError(),
    engine.StaleStateError(),
    engine.UnknownItemError(),
    InvalidPageTokenError(),
    StalePageTokenError(),
    OverloadedError("too much"),
    RuntimeError("a bug"),
]


class Failed:
    """A call that ended with a status and a reason."""

    def __init__(self, status, reason=""):
        self._code = grpc.StatusCode[status]
        self._reason = reason

    def code(self):
        """The status."""
        return self._code

    def details(self):
        """The text."""
        return "text"

    def trailing_metadata(self):
        """The details, with the reason if there is one."""
        if not self._reason:
            return ()
        failure = failure_of(RuntimeError())
        named = type(failure)(self._code, self._reason, "text")
        return (("grpc-status-details-bin", named.details()),)


def test_every_reason_is_described():
    """The table has each reason of the protos once."""
    names = [name.removeprefix("ERROR_REASON_") for name in pb.ErrorReason.keys()]  # noqa: SIM118 - not a dict
    assert [reason for reason, _, _ in WITH_REASON] == names[1:]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_the_server_ends_calls_as_described(error):
    """What an exception becomes stands in the table, the status beside the reason."""
    failure = failure_of(error)
    assert (failure.reason, failure.code.name) in {row[:2] for row in WITH_REASON}


@pytest.mark.parametrize(("reason", "status", "error"), WITH_REASON)
def test_the_sdk_raises_what_is_described(reason, status, error):
    """Each reason becomes the error that the table names."""
    assert type(error_of(Failed(status, reason), 1.0, "target")) is getattr(client, error)


@pytest.mark.parametrize(("status", "error"), WITHOUT_REASON)
def test_the_sdk_raises_what_is_described_without_a_reason(status, error):
    """So does each status of gRPC itself; one of a closed client the client makes itself."""
    assert len(WITHOUT_REASON) == TRANSPORT.count("\n| `")
    named = "ServerError" if error == "ClientClosedError" else error
    assert type(error_of(Failed(status), 1.0, "target")) is getattr(client, named)
