import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.engine import Event
from kinrec.v1 import recommender_pb2 as pb


def test_a_request_reaches_the_engine_whole(engine, stub):
    """Every field of a request is handed over, with its presence kept."""
    events = [
        pb.Event(item_id="i1", event_type="view", time=Timestamp(seconds=5, nanos=500_000_000)),
        pb.Event(item_id="i2", value=0.0),
        pb.Event(item_id="i3", time=Timestamp()),
    ]
    stub.Recommend(
        pb.RecommendRequest(
            user_id="u", events=events, limit=3, include_seen=False, exclude_item_ids=["x", "y"]
        )
    )
    assert engine.asked == [
        {
            "user_id": "u",
            "events": [
                Event("i1", "view", 5.5, None),
                Event("i2", "", None, 0.0),
                Event("i3", "", 0.0, None),
            ],
            "state": b"",
            "limit": 3,
            "include_seen": False,
            "exclude_item_ids": ["x", "y"],
        }
    ]
    assert all(type(event) is Event for event in engine.asked[0]["events"])


def test_what_is_left_out_takes_the_default(engine, stub):
    """No limit asks for ten, and include_seen that is not set is the model's to choose."""
    stub.Recommend(pb.RecommendRequest(user_id="u"))
    stub.SimilarUsers(pb.SimilarUsersRequest(user_id="u"))
    assert engine.asked[0]["limit"] == engine.asked[1]["limit"] == 10
    assert engine.asked[0]["include_seen"] is None


def test_an_encoding_is_answered_whole(stub):
    """The vector, the version, the report and known_user are those of the engine."""
    answer = stub.EncodeSequence(pb.EncodeSequenceRequest(user_id="u"))
    assert list(answer.vector) == [0, 1, 2, 3]
    assert answer.model_version == "v1"
    assert answer.known_user
    assert answer.event_report == pb.EventReport(
        received=9,
        used=1,
        unknown_item=2,
        repeated=3,
        truncated=1,
        unknown_event_type=1,
        late=0,
        dropped=2,
    )


def test_similar_users_are_answered_in_order(stub):
    """Each user stands with its similarity, in the engine's order."""
    answer = stub.SimilarUsers(pb.SimilarUsersRequest(user_id="u"))
    found = [(user.user_id, user.similarity) for user in answer.similar_users]
    assert found == [("a", 0.5), ("b", -0.25)]
    assert answer.model_version == "v1"


def test_recommendations_are_answered_in_order(stub):
    """Each item stands with its score and title, in the engine's order, and the basis is said."""
    answer = stub.Recommend(pb.RecommendRequest(user_id="u"))
    found = [(item.item_id, item.score, item.title) for item in answer.recommendations]
    assert found == [("i1", 2.0, "One"), ("i2", 1.0, "")]
    assert answer.basis == pb.BASIS_POPULAR
    assert answer.model_version == "v1"


def test_the_model_is_described_from_its_manifest(stub):
    """GetModel says what the bundle holds and what the server takes."""
    assert stub.GetModel(pb.GetModelRequest()) == pb.GetModelResponse(
        name="stand-in",
        version="v1",
        create_time=Timestamp(),
        encoder="lstm",
        vector_size=4,
        user_count=3,
        item_count=5,
        event_types=["view"],
        max_events=2000,
        max_limit=1000,
        include_seen_default=True,
        max_state_bytes=262_144,
        max_requests=256,
    )


@pytest.mark.parametrize("seconds", [-62_135_596_800, -1, 253_402_300_799])
def test_times_at_the_ends_of_the_range_pass(engine, stub, seconds):
    """Every time that a Timestamp can stand for is taken, those before 1970 included."""
    event = pb.Event(item_id="i", time=Timestamp(seconds=seconds))
    stub.EncodeSequence(pb.EncodeSequenceRequest(events=[event]))
    assert engine.asked[0]["events"][0].time == seconds
