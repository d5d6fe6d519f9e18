"""Both clients against a real server: what each question sends, and what comes back."""

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from kinrec.client import (
    AnyOf,
    Event,
    Health,
    InvalidRequestError,
    Options,
    Query,
    UnknownUserError,
)
from kinrec.v1 import recommender_pb2 as pb

from .conftest import Refusal, rich_details

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "busy", rich_details("UNAVAILABLE"))


def test_encode_sequence(server, ask):
    """The events and the user are sent, and the vector comes back."""
    server.script = [pb.EncodeSequenceResponse(vector=[1, 2], model_version="v1")]
    answer = ask("encode_sequence", [Event("i7", "view")], user_id="u")
    assert (answer.vector, answer.model_version) == ((1.0, 2.0), "v1")
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/EncodeSequence"
    sent = pb.EncodeSequenceRequest.FromString(data)
    assert sent == pb.EncodeSequenceRequest(
        user_id="u", events=[pb.Event(item_id="i7", event_type="view")]
    )


def test_similar_users(server, ask):
    """The user and the limit are sent, and users come back."""
    server.script = [pb.SimilarUsersResponse(similar_users=[pb.SimilarUser(user_id="a")])]
    answer = ask("similar_users", user_id="u42", limit=10)
    assert [user.user_id for user in answer.similar_users] == ["a"]
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/SimilarUsers"
    assert pb.SimilarUsersRequest.FromString(data) == pb.SimilarUsersRequest(
        user_id="u42", limit=10
    )


def test_recommend(server, ask):
    """Every argument is sent, and items come back."""
    server.script = [pb.RecommendResponse(recommendations=[pb.Recommendation(item_id="i")])]
    answer = ask(
        "recommend",
        events=[Event("i7")],
        user_id="u",
        limit=20,
        include_seen=True,
        exclude_item_ids={"i1"},
    )
    assert [item.item_id for item in answer.recommendations] == ["i"]
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/Recommend"
    assert pb.RecommendRequest.FromString(data) == pb.RecommendRequest(
        user_id="u",
        events=[pb.Event(item_id="i7")],
        limit=20,
        include_seen=True,
        exclude_item_ids=["i1"],
    )


def test_recommend_with_options(server, ask):
    """Options are sent beside the rest, and what is answered to them comes back."""
    server.script = [pb.RecommendResponse(allowed_item_count=3, next_page_token="next")]  # noqa: S106 - no secret
    options = Options(conditions=[AnyOf("category", ["tea"])], diversity=0.5)
    answer = ask("recommend", user_id="u", options=options)
    assert (answer.allowed_item_count, answer.next_page_token) == (3, "next")
    ((_, data),) = server.calls
    tea = pb.Condition(attribute="category", any_of=pb.TextValues(values=["tea"]))
    assert pb.RecommendRequest.FromString(data) == pb.RecommendRequest(
        user_id="u", conditions=[tea], diversity=0.5
    )


def test_similar_users_with_what_they_share(server, ask):
    """How many shared items are wanted, and how they are searched, is sent."""
    server.script = [pb.SimilarUsersResponse()]
    ask("similar_users", user_id="u", shared_items=3, search_effort=2, exact=True)
    ((_, data),) = server.calls
    assert pb.SimilarUsersRequest.FromString(data) == pb.SimilarUsersRequest(
        user_id="u", shared_items=3, search_effort=2, exact=True
    )


def test_rank(server, ask):
    """The items and the person are sent, and the order comes back."""
    items = [pb.Recommendation(item_id="i2"), pb.Recommendation(item_id="i1")]
    server.script = [pb.RankResponse(recommendations=items)]
    answer = ask("rank", ["i1", "i2"], [Event("i7")], user_id="u", state=b"s", reasons=True)
    assert [item.item_id for item in answer.recommendations] == ["i2", "i1"]
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/Rank"
    assert pb.RankRequest.FromString(data) == pb.RankRequest(
        user_id="u",
        events=[pb.Event(item_id="i7")],
        state=b"s",
        item_ids=["i1", "i2"],
        reasons=True,
    )


def test_similar_items(server, ask):
    """The item and what it may be is sent, and items come back."""
    server.script = [pb.SimilarItemsResponse(similar_items=[pb.SimilarItem(item_id="i2")])]
    answer = ask(
        "similar_items", "i1", limit=3, allow_item_ids=["i2"], conditions=[AnyOf("a", ["x"])]
    )
    assert [item.item_id for item in answer.similar_items] == ["i2"]
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/SimilarItems"
    sent = pb.SimilarItemsRequest.FromString(data)
    assert (sent.item_id, sent.limit, list(sent.allow_item_ids)) == ("i1", 3, ["i2"])
    assert sent.conditions[0].any_of.values == ["x"]


def test_batch_recommend(server, ask):
    """Every query is sent in its place; its answer or its error comes back there, and none is raised."""
    failure = pb.Failure(code=5, reason=pb.ERROR_REASON_UNKNOWN_USER, message="user_id: not known")
    answer = pb.RecommendResponse(recommendations=[pb.Recommendation(item_id="i")])
    server.script = [
        pb.BatchRecommendResponse(
            results=[pb.RecommendResult(response=answer), pb.RecommendResult(failure=failure)]
        )
    ]
    queries = [
        Query([Event("i7")], limit=3, options=Options(diversity=0.5)),
        Query(user_id=7),
        Query(user_id="nobody", include_seen=False, exclude_item_ids=["i1"]),
    ]
    found, unsendable, unknown = ask("batch_recommend", iter(queries))
    assert [item.item_id for item in found.recommendations] == ["i"]
    assert type(unsendable) is InvalidRequestError
    assert unsendable.message == "user_id: must be a string, not int"
    assert type(unknown) is UnknownUserError
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/BatchRecommend"
    assert list(pb.BatchRecommendRequest.FromString(data).requests) == [
        pb.RecommendRequest(events=[pb.Event(item_id="i7")], limit=3, diversity=0.5),
        pb.RecommendRequest(user_id="nobody", include_seen=False, exclude_item_ids=["i1"]),
    ]


def test_batch_encode(server, ask):
    """Of each query who the person is is sent."""
    response = pb.EncodeSequenceResponse(vector=[1, 2], state=b"t")
    server.script = [pb.BatchEncodeResponse(results=[pb.EncodeResult(response=response)])]
    (found,) = ask("batch_encode", [Query([Event("i7")], user_id="u", state=b"s", limit=7)])
    assert (found.vector, found.state) == ((1.0, 2.0), b"t")
    ((method, data),) = server.calls
    assert method == "/kinrec.v1.RecommenderService/BatchEncode"
    (sent,) = pb.BatchEncodeRequest.FromString(data).requests
    assert sent == pb.EncodeSequenceRequest(
        user_id="u", events=[pb.Event(item_id="i7")], state=b"s"
    )


@pytest.mark.parametrize(
    ("queries", "text"),
    [
        ([Query(user_id="u"), {"user_id": "u"}], r"^queries\[1\]: must be a Query, not dict$"),
        (Query(user_id="u"), r"^queries: must be a sequence of queries, not Query$"),
    ],
)
def test_what_is_no_query_is_refused(server, ask, queries, text):
    """A mistake in the program is raised, and nothing is sent."""
    for method in ("batch_recommend", "batch_encode"):
        with pytest.raises(InvalidRequestError, match=text):
            ask(method, queries)
    assert server.calls == []


def test_a_large_answer_is_taken(server, ask):
    """What 256 people's states and items come to is more than gRPC takes unless told."""
    items = [pb.Recommendation(item_id="i" * 500, title="t" * 500)] * 40
    answer = pb.RecommendResponse(recommendations=items, state=bytes(200_000))
    results = [pb.RecommendResult(response=answer)] * 64
    server.script = [pb.BatchRecommendResponse(results=results)]
    found = ask("batch_recommend", [Query(user_id="u")] * 64, timeout=20)
    assert len(found) == 64
    assert len(found[-1].state) == 200_000


def test_a_large_call_is_repeated_too(server, ask):
    """What a call sends is kept in order to repeat it, up to what a server takes."""
    server.script = [UNAVAILABLE, pb.RecommendResponse(model_version="v1")]
    events = [Event(f"{number:0>500}") for number in range(2_000)]
    assert ask("recommend", events, timeout=10).model_version == "v1"
    assert len(server.calls) == 2


def test_get_model(server, ask):
    """The description of the model comes back."""
    server.script = [pb.GetModelResponse(name="shop")]
    assert ask("get_model").name == "shop"


def test_health_asks_for_the_service(server, ask):
    """The standard health service is asked for the recommender service by its name."""
    server.script = [b"\x08\x01"]
    assert ask("health") is Health.SERVING
    ((method, data),) = server.calls
    assert method == "/grpc.health.v1.Health/Check"
    assert StringValue.FromString(data).value == "kinrec.v1.RecommenderService"
