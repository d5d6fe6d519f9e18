"""From messages to results."""

import dataclasses
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.client import (
    Basis,
    EncodeSequenceResult,
    EventReport,
    Health,
    Model,
    Recommendation,
    RecommendResult,
    ServerError,
    SimilarUser,
    SimilarUsersResult,
    _calls,
    _responses,
)
from kinrec.v1 import recommender_pb2 as pb

REPORT = pb.EventReport(
    received=25,
    used=1,
    unknown_item=2,
    repeated=3,
    truncated=15,
    unknown_event_type=1,
    late=1,
    dropped=4,
)


def test_an_interest_vector():
    """The vector is a tuple of floats, beside the report."""
    message = pb.EncodeSequenceResponse(
        vector=[0.5, -2], model_version="v1", event_report=REPORT, known_user=True
    )
    assert _responses.encode_sequence_result(message.SerializeToString()) == EncodeSequenceResult(
        (0.5, -2.0), "v1", EventReport(25, 1, 2, 3, 15, 1, 1, 4), known_user=True
    )


def test_similar_users():
    """Users keep their order and similarity."""
    users = [pb.SimilarUser(user_id="a", similarity=0.5), pb.SimilarUser(user_id="b")]
    message = pb.SimilarUsersResponse(similar_users=users, model_version="v1")
    assert _responses.similar_users_result(message.SerializeToString()) == SimilarUsersResult(
        (SimilarUser("a", 0.5), SimilarUser("b", 0.0)), "v1", EventReport(), known_user=False
    )


def test_recommendations():
    """Items keep their order, score and title, and the basis is named."""
    items = [pb.Recommendation(item_id="i", score=1.5, title="I"), pb.Recommendation(item_id="j")]
    message = pb.RecommendResponse(recommendations=items, basis=pb.BASIS_POPULAR)
    assert _responses.recommend_result(message.SerializeToString()) == RecommendResult(
        (Recommendation("i", 1.5, "I"), Recommendation("j", 0.0, "")),
        Basis.POPULAR,
        "",
        EventReport(),
        known_user=False,
    )


@pytest.mark.parametrize("number", [0, 7])
def test_a_basis_of_a_later_server(number):
    """A basis that this client does not know is unspecified, not an error."""
    data = pb.RecommendResponse(basis=number).SerializeToString()
    assert _responses.recommend_result(data).basis is Basis.UNSPECIFIED


def test_a_model():
    """The description is plain values, with the time in UTC."""
    message = pb.GetModelResponse(
        name="shop",
        version="v1",
        create_time=Timestamp(seconds=1_767_225_600),
        encoder="lstm",
        vector_size=64,
        user_count=2,
        item_count=3,
        event_types=["view", "buy"],
        max_events=2000,
        max_limit=1000,
        include_seen_default=True,
    )
    assert _responses.model(message.SerializeToString()) == Model(
        name="shop",
        version="v1",
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
        encoder="lstm",
        vector_size=64,
        user_count=2,
        item_count=3,
        event_types=("view", "buy"),
        max_events=2000,
        max_limit=1000,
        include_seen_default=True,
    )
    assert _responses.model(b"").create_time is None


@pytest.mark.parametrize(
    ("data", "health"),
    [
        (b"", Health.UNKNOWN),
        (b"\x08\x01", Health.SERVING),
        (b"\x08\x02", Health.NOT_SERVING),
        (b"\x08\x09", Health.UNKNOWN),
    ],
)
def test_health(data, health):
    """A status is read by its number; one that this client does not know is unknown."""
    assert _responses.health(data) is health


@pytest.mark.parametrize(
    "call",
    [
        _calls.encode_sequence((), user_id="u"),
        _calls.similar_users((), user_id="u", limit=None),
        _calls.get_model(),
        _calls.health(),
    ],
    ids=lambda call: call.method,
)
def test_bytes_that_are_no_response(call):
    """Garbage is the server's error and shows nothing of the decoder."""
    with pytest.raises(ServerError, match=r"^the answer of the server cannot be read$"):
        call.read(b"\xff\xff garbage")


def test_a_time_out_of_range():
    """A message with a time that is none cannot be read."""
    data = pb.GetModelResponse(create_time=Timestamp(seconds=10**18)).SerializeToString()
    with pytest.raises(ServerError, match="cannot be read"):
        _calls.get_model().read(data)


def test_results_are_values():
    """A result cannot be changed, and takes no attributes of its own."""
    item = Recommendation("i", 1.0, "")
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.score = 2.0
    assert not hasattr(item, "__dict__")
