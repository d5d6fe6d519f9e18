"""From failed calls to errors."""

import pickle

import grpc
import pytest

from kinrec import client as sdk
from kinrec.client import (
    DeadlineExceededError,
    FieldViolation,
    InvalidRequestError,
    KinrecError,
    PageTokenError,
    Query,
    ServerError,
    StateError,
    UnavailableError,
    UnknownItemError,
    UnknownUserError,
)
from kinrec.client._errors import error_of_failure
from kinrec.v1 import recommender_pb2 as pb

from .conftest import Refusal, rich_details

TABLE = pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", InvalidRequestError),
        (grpc.StatusCode.INVALID_ARGUMENT, "NO_SUBJECT", InvalidRequestError),
        (grpc.StatusCode.INVALID_ARGUMENT, "", InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER", UnknownUserError),
        (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ITEM", UnknownItemError),
        (grpc.StatusCode.NOT_FOUND, "", ServerError),
        (grpc.StatusCode.INVALID_ARGUMENT, "STATE_INVALID", StateError),
        (grpc.StatusCode.FAILED_PRECONDITION, "STATE_STALE", StateError),
        (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", PageTokenError),
        (grpc.StatusCode.FAILED_PRECONDITION, "PAGE_TOKEN_STALE", PageTokenError),
        (grpc.StatusCode.FAILED_PRECONDITION, "", ServerError),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "UNAVAILABLE", UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", ServerError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", DeadlineExceededError),
        (grpc.StatusCode.INTERNAL, "INTERNAL", ServerError),
        (grpc.StatusCode.UNIMPLEMENTED, "", ServerError),
        (grpc.StatusCode.CANCELLED, "", ServerError),
    ],
)


@TABLE
def test_the_table(server, ask, code, reason, kind):
    """Each status ends as the error that the table says, with its code, reason and cause."""
    server.script = [Refusal(code, "as told", rich_details(reason) if reason else b"")]
    with pytest.raises(KinrecError) as raised:
        ask("get_model")
    error = raised.value
    assert type(error) is kind
    assert (error.code, error.reason) == (code, reason)
    assert isinstance(error.__cause__, grpc.RpcError)


@TABLE
def test_the_table_holds_for_a_failure_among_many(server, ask, code, reason, kind):
    """The failure of one of a batch is the error that the call would have raised for it alone."""
    number = pb.ErrorReason.Value(f"ERROR_REASON_{reason or 'UNSPECIFIED'}")
    failure = pb.Failure(code=code.value[0], reason=number, message="as told")
    server.script = [pb.BatchEncodeResponse(results=[pb.EncodeResult(failure=failure)])]
    (error,) = ask("batch_encode", [Query(user_id="u")])
    assert type(error) is kind
    assert (error.code, error.reason, error.violations) == (code, reason, ())
    assert error.message == "as told"


def test_a_failure_of_a_later_server():
    """A code and a reason that this client does not know are the server's error."""
    error = error_of_failure(pb.Failure(code=99, reason=99))
    assert type(error) is ServerError
    assert (error.code, error.reason) == (grpc.StatusCode.UNKNOWN, "")
    assert error.message == "the call ended with UNKNOWN"


def test_the_field_of_a_failure_is_its_violation():
    """The message begins with the field, and the rest is the rule."""
    failure = pb.Failure(code=3, reason=1, message="limit: must be small", field="limit")
    error = error_of_failure(failure)
    assert type(error) is InvalidRequestError
    assert error.violations == (FieldViolation("limit", "must be small"),)
    assert error.message == "limit: must be small"


def test_violations_come_along(server, ask):
    """The field and the rule that the server names are on the error, and its text is the message."""
    details = rich_details("INVALID_FIELD", ("events[3].value", "must be finite"))
    text = "events[3].value: must be finite"
    server.script = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, text, details)]
    with pytest.raises(InvalidRequestError) as raised:
        ask("recommend", user_id="u")
    assert raised.value.violations == (FieldViolation("events[3].value", "must be finite"),)
    assert raised.value.message == str(raised.value) == text


@pytest.mark.parametrize(
    "details", [b"\xff\xff garbage", b"\x1a\x03\x0a\x01\xff", b"\x1a\x02\x0a\x00"]
)
def test_details_that_cannot_be_read(server, ask, details):
    """Details that cannot be read do not hide the status."""
    server.script = [Refusal(grpc.StatusCode.INVALID_ARGUMENT, "told", details)]
    with pytest.raises(InvalidRequestError, match=r"^told$") as raised:
        ask("recommend", user_id="u")
    assert (raised.value.reason, raised.value.violations) == ("", ())


def test_a_message_is_one_line(server, ask):
    """A text of many lines becomes one; a missing text is replaced by the status."""
    server.script = [
        Refusal(grpc.StatusCode.INTERNAL, "one\n  two"),
        Refusal(grpc.StatusCode.INTERNAL),
    ]
    with pytest.raises(ServerError, match=r"^one two$"):
        ask("get_model")
    with pytest.raises(ServerError, match=r"^the call ended with INTERNAL$"):
        ask("get_model")


def test_an_answer_that_is_garbage(server, ask):
    """Bytes that are no answer are the server's error, and no status."""
    server.script = [b"\xff\xff garbage"]
    with pytest.raises(ServerError, match="cannot be read") as raised:
        ask("recommend", user_id="u")
    assert raised.value.code is None


def test_nobody_listens(ask):
    """A port that nobody listens on is unavailable, within the deadline."""
    with pytest.raises(
        UnavailableError, match=r"^no server could be reached at 127.0.0.1:1$"
    ) as raised:
        ask("recommend", user_id="u", target="127.0.0.1:1")
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "target", ["", None, 50051, "50051", "localhost", "http://localhost:50051", "a\nb", "\ud800"]
)
def test_a_target_that_is_none(ask, target):
    """What cannot be a target is refused before anything is sent."""
    with pytest.raises(InvalidRequestError, match=r"^target: "):
        ask("health", target=target)


@pytest.mark.parametrize(
    "kind", [getattr(sdk, name) for name in sdk.__all__ if name.endswith("Error")]
)
def test_errors_are_of_one_tree_and_travel(kind):
    """Every public error is a KinrecError, and survives a way through a process pool."""
    error = kind("text")
    error.violations = (FieldViolation("f", "r"),)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert isinstance(again, KinrecError)
    assert (type(again), str(again), again.violations) == (kind, "text", error.violations)
