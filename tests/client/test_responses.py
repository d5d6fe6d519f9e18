"""From messages to results."""

import dataclasses
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.client import (
    Attribute,
    AttributeKind,
    Basis,
    EncodeSequenceResult,
    EventReport,
    Health,
    Model,
    OwnItem,
    Query,
    RankResult,
    Reason,
    Recommendation,
    RecommendResult,
    ServerError,
    SimilarItem,
    SimilarItemsResult,
    SimilarUser,
    SimilarUsersResult,
    Source,
    SourceShare,
    Voter,
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
        (0.5, -2.0),
        model_version="v1",
        event_report=EventReport(25, 1, 2, 3, 15, 1, 1, 4),
        known_user=True,
    )


def test_similar_users():
    """Users keep their order and similarity."""
    shared = pb.SimilarUser(user_id="a", similarity=0.5, shared_item_ids=["i1", "i2"])
    users = [shared, pb.SimilarUser(user_id="b")]
    message = pb.SimilarUsersResponse(similar_users=users, model_version="v1")
    assert _responses.similar_users_result(message.SerializeToString()) == SimilarUsersResult(
        (SimilarUser("a", 0.5, ("i1", "i2")), SimilarUser("b", 0.0)),
        model_version="v1",
        event_report=EventReport(),
        known_user=False,
    )


def test_recommendations():
    """Items keep their order, score and title, and the basis is named."""
    items = [pb.Recommendation(item_id="i", score=1.5, title="I"), pb.Recommendation(item_id="j")]
    message = pb.RecommendResponse(recommendations=items, basis=pb.BASIS_POPULAR)
    assert _responses.recommend_result(message.SerializeToString()) == RecommendResult(
        (Recommendation("i", 1.5, "I"), Recommendation("j", 0.0, "")),
        Basis.POPULAR,
        model_version="",
        event_report=EventReport(),
        known_user=False,
    )


def test_reasons_and_pages():
    """A reason is plain values with a source of a later server unspecified; a count may be left out."""
    reason = pb.Reason(
        sources=[
            pb.SourceShare(source=number, share=0.125)
            for number in (*pb.Source.values()[1:], 99, 0)
        ],
        voter_count=7,
        voters=[pb.Voter(pseudonym="p", similarity=0.5)],
        own_items=[pb.OwnItem(item_id="i3", share=0.75)],
    )
    items = [pb.Recommendation(item_id="i", reason=reason), pb.Recommendation(item_id="j")]
    message = pb.RecommendResponse(recommendations=items, allowed_item_count=0)
    message.next_page_token = "token"  # noqa: S105 - no secret
    found = _responses.recommend_result(message.SerializeToString())
    sources = [*list(Source)[1:], Source.UNSPECIFIED, Source.UNSPECIFIED]
    assert found.recommendations[0].reason == Reason(
        tuple(SourceShare(source, 0.125) for source in sources),
        7,
        (Voter("p", 0.5),),
        (OwnItem("i3", 0.75),),
    )
    assert found.recommendations[1].reason is None
    assert (found.allowed_item_count, found.next_page_token) == (0, "token")
    empty = _responses.recommend_result(b"")
    assert (empty.allowed_item_count, empty.next_page_token) == (None, "")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (_responses.encode_sequence_result, pb.EncodeSequenceResponse),
        (_responses.similar_users_result, pb.SimilarUsersResponse),
        (_responses.recommend_result, pb.RecommendResponse),
        (_responses.rank_result, pb.RankResponse),
    ],
)
def test_the_variant_of_an_experiment(read, message):
    """Every answer about a person names it."""
    assert read(message(variant="control").SerializeToString()).variant == "control"
    assert read(b"").variant == ""


def test_a_ranking():
    """Known items in order, unknown ids, and all that an answer about a person has."""
    message = pb.RankResponse(
        recommendations=[pb.Recommendation(item_id="i", score=1.5, title="I")],
        unknown_item_ids=["?"],
        model_version="v1",
        event_report=REPORT,
        known_user=True,
        basis=pb.BASIS_PERSONAL,
        state=b"s",
        send_history=True,
    )
    assert _responses.rank_result(message.SerializeToString()) == RankResult(
        (Recommendation("i", 1.5, "I"),),
        ("?",),
        Basis.PERSONAL,
        model_version="v1",
        event_report=EventReport(25, 1, 2, 3, 15, 1, 1, 4),
        known_user=True,
        state=b"s",
        send_history=True,
    )


def test_similar_items():
    """Items keep their order, similarity and title."""
    message = pb.SimilarItemsResponse(
        similar_items=[pb.SimilarItem(item_id="i", similarity=0.5, title="I")],
        model_version="v1",
        allowed_item_count=3,
    )
    assert _responses.similar_items_result(message.SerializeToString()) == SimilarItemsResult(
        (SimilarItem("i", 0.5, "I"),), "v1", 3
    )
    assert _responses.similar_items_result(b"").allowed_item_count is None


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
        attributes=[
            pb.Attribute(name="brand", kind=pb.Attribute.KIND_TEXT),
            pb.Attribute(name="price", kind=pb.Attribute.KIND_NUMBER),
            pb.Attribute(name="since", kind=pb.Attribute.KIND_TIME),
            pb.Attribute(name="place", kind=9),
        ],
        max_requests=256,
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
        attributes=(
            Attribute("brand", AttributeKind.TEXT),
            Attribute("price", AttributeKind.NUMBER),
            Attribute("since", AttributeKind.TIME),
            Attribute("place", AttributeKind.UNSPECIFIED),
        ),
        max_requests=256,
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
        _calls.recommend(Query(user_id="u")),
        _calls.rank(["i"], (), user_id="u"),
        _calls.similar_items("i", limit=None),
        _calls.batch_encode([Query(user_id="u")]),
        _calls.batch_recommend([Query(user_id="u")]),
        _calls.get_model(),
        _calls.health(),
    ],
    ids=lambda call: call.method,
)
def test_bytes_that_are_no_response(call):
    """Garbage is the server's error and shows nothing of the decoder."""
    with pytest.raises(ServerError, match=r"^the answer of the server cannot be read$"):
        call.read(b"\xff\xff garbage")


@pytest.mark.parametrize(
    "message",
    [
        pb.BatchRecommendResponse(),
        pb.BatchRecommendResponse(results=[pb.RecommendResult()]),
        pb.BatchRecommendResponse(results=[pb.RecommendResult(response={})] * 2),
    ],
)
def test_a_batch_that_does_not_answer_each(message):
    """Fewer results than requests, more, or one without a content cannot be told apart by place."""
    call = _calls.batch_recommend([Query(user_id="u")])
    with pytest.raises(ServerError, match="cannot be read"):
        call.read(message.SerializeToString())


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
