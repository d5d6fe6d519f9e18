import logging
from concurrent.futures import CancelledError

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from kinrec.engine import InvalidFieldError, NoSubjectError, UnknownUserError
from kinrec.server.config import MAX_REQUEST_BYTES
from kinrec.v1 import recommender_pb2 as pb


def failure_of(call):
    """Make a call that must fail; return its code, its text, and its details by type."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    metadata = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (caught.value.code().value[0], caught.value.details())
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert info.domain == "kinrec"
    assert pb.ErrorReason.Value(f"ERROR_REASON_{info.reason}")
    if len(status.details) > 1:
        assert status.details[1].Unpack(request)
    violations = [
        (violation.field, violation.description) for violation in request.field_violations
    ]
    return caught.value.code(), caught.value.details(), info.reason, violations


def raw(channel, method, data):
    """Send bytes as the request of a method."""
    return channel.unary_unary(method)(data, timeout=10)


RECOMMEND = "/kinrec.v1.RecommenderService/Recommend"


def test_a_field_that_breaks_its_rule_is_named(engine, stub):
    """The status is INVALID_ARGUMENT, and the details name the field and the rule."""
    engine.failure = InvalidFieldError("events[3].value", "must be finite")
    code, text, reason, violations = failure_of(
        lambda: stub.Recommend(pb.RecommendRequest(user_id="u"))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "events[3].value: must be finite"
    assert reason == "INVALID_FIELD"
    assert violations == [("events[3].value", "must be finite")]


def test_no_subject_is_an_invalid_argument(engine, stub):
    """A request about nobody says what to give."""
    engine.failure = NoSubjectError()
    code, _, reason, violations = failure_of(lambda: stub.SimilarUsers(pb.SimilarUsersRequest()))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NO_SUBJECT")
    assert violations == [("user_id", "at least one of user_id, events and state must be given")]


def test_an_unknown_user_is_not_found(engine, stub):
    """A user the model does not know is NOT_FOUND."""
    engine.failure = UnknownUserError()
    code, _, reason, violations = failure_of(
        lambda: stub.EncodeSequence(pb.EncodeSequenceRequest(user_id="u"))
    )
    assert (code, reason, violations) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER", [])


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("secret"), CancelledError("secret"), SystemExit("secret")],
    ids=lambda failure: type(failure).__name__,
)
def test_an_unexpected_error_is_logged_and_not_told(engine, stub, caplog, failure):
    """The caller gets INTERNAL and a request id; the log has the error under that id."""
    engine.failure = failure
    with caplog.at_level(logging.ERROR):
        code, text, reason, violations = failure_of(
            lambda: stub.Recommend(pb.RecommendRequest(user_id="u"), timeout=10)
        )
    assert (code, reason, violations) == (grpc.StatusCode.INTERNAL, "INTERNAL", [])
    assert "secret" not in text
    (record,) = caplog.records
    assert text.removeprefix("the service failed; request id ") in record.getMessage()
    assert record.exc_info[1] is failure


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x12\x05ab"], ids=["garbage", "truncated"])
@pytest.mark.parametrize(
    "method", [RECOMMEND, "/kinrec.v1.RecommenderService/GetModel", "/grpc.health.v1.Health/Check"]
)
def test_bytes_that_are_no_message_are_an_invalid_argument(channel, engine, caplog, method, data):
    """Every method refuses them without a line in the log or a word of the decoder's."""
    code, text, reason, violations = failure_of(lambda: raw(channel, method, data))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert violations == [("", text)]
    assert "not a message" in text
    assert not engine.asked
    assert not caplog.records


def test_text_that_is_not_utf8_is_an_invalid_argument(channel, engine):
    """A user id that is no text makes the bytes no message."""
    code, _, reason, _ = failure_of(lambda: raw(channel, RECOMMEND, b"\x0a\x02\xc3\x28"))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert not engine.asked


def test_garbage_to_a_stream_is_an_invalid_argument(engine, start_server, open_channel, caplog):
    """A health watch and a reflection stream refuse what is no message as calls do."""
    channel = open_channel(start_server(engine, reflection=True))
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff\xff", timeout=10)
    reflect = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )(iter([b"\xff\xff"]), timeout=10)
    for stream in (watch, reflect):
        code, _, reason, _ = failure_of(lambda stream=stream: list(stream))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert not caplog.records


def test_too_many_events_are_refused_before_they_are_converted(engine, stub):
    """2,000 events pass; one more is an INVALID_ARGUMENT that says how many may come."""
    event = pb.Event(item_id="i")
    stub.Recommend(pb.RecommendRequest(events=[event] * 2000))
    assert len(engine.asked) == 1
    code, text, reason, violations = failure_of(
        lambda: stub.Recommend(pb.RecommendRequest(events=[event] * 2001))
    )
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert violations == [("events", "at most 2000 are allowed, got 2001")]
    assert text == "events: at most 2000 are allowed, got 2001"
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    "time",
    [
        Timestamp(seconds=253_402_300_800),
        Timestamp(seconds=-62_135_596_801),
        Timestamp(nanos=-1),
        Timestamp(seconds=1, nanos=1_000_000_000),
    ],
    ids=["year 10000", "year 0", "negative nanos", "too many nanos"],
)
def test_a_time_out_of_range_names_the_event(stub, time):
    """A Timestamp that stands for no time is refused with the path of the field."""
    events = [pb.Event(item_id="i"), pb.Event(item_id="i", time=time)]
    code, _, reason, violations = failure_of(
        lambda: stub.EncodeSequence(pb.EncodeSequenceRequest(events=events))
    )
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert violations == [("events[1].time", "must lie in the years 1 to 9999")]


def test_a_message_over_the_size_is_refused(channel, engine):
    """GRPC refuses it as RESOURCE_EXHAUSTED, the engine is not asked, and the next call works."""
    with pytest.raises(grpc.RpcError) as caught:
        raw(channel, RECOMMEND, bytes(MAX_REQUEST_BYTES + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not engine.asked
    raw(channel, RECOMMEND, pb.RecommendRequest(user_id="u").SerializeToString())
    assert len(engine.asked) == 1


def test_the_largest_request_within_the_other_limits_passes(engine, stub):
    """No request that keeps the limits of its fields is refused for its size."""
    longest = "x" * 512
    event = pb.Event(
        item_id=longest, event_type=longest, time=Timestamp(seconds=1, nanos=1), value=1.5
    )
    stub.Recommend(
        pb.RecommendRequest(
            user_id=longest, events=[event] * 2000, limit=1000, exclude_item_ids=[longest] * 10_000
        )
    )
    assert len(engine.asked[0]["exclude_item_ids"]) == 10_000


def test_an_unknown_method_stays_unimplemented(channel):
    """A method or service that is not there is UNIMPLEMENTED."""
    for method in ("/kinrec.v1.RecommenderService/Forget", "/kinrec.v9.Other/Do"):
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, method, b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
