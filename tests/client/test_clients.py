"""Both clients against a real server: what they send, their deadlines, retries and ends."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from kinrec.client import (
    AnyOf,
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    Event,
    Health,
    InvalidRequestError,
    KinrecError,
    Options,
    Query,
    UnavailableError,
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


def test_what_cannot_be_sent_is_not_sent(server, ask):
    """A request that no message can hold reaches no server."""
    with pytest.raises(InvalidRequestError):
        ask("recommend", [Event(7)])
    assert server.calls == []


def test_a_call_that_no_server_took_is_repeated(server, ask):
    """After two answers of UNAVAILABLE the third is the caller's."""
    server.script = [UNAVAILABLE, UNAVAILABLE, pb.GetModelResponse(name="shop")]
    assert ask("get_model").name == "shop"
    assert len(server.calls) == 3


def test_repeats_end(server, ask):
    """After four attempts the caller hears of it."""
    server.script = [UNAVAILABLE]
    with pytest.raises(UnavailableError, match=r"^busy$"):
        ask("get_model")
    assert len(server.calls) == 4


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
    ],
)
def test_no_other_failure_is_repeated(server, ask, code):
    """Only UNAVAILABLE is repeated."""
    server.script = [Refusal(code)]
    with pytest.raises(KinrecError):
        ask("get_model")
    assert len(server.calls) == 1


def test_health_is_not_repeated(server, ask):
    """Health is of this moment."""
    server.script = [UNAVAILABLE]
    with pytest.raises(UnavailableError):
        ask("health")
    assert len(server.calls) == 1


def test_repeats_stop_while_most_calls_fail(server):
    """Under steady failure the throttle lets few repeats through."""
    server.script = [UNAVAILABLE]
    with Client(server.address, channel_options=[("grpc.use_local_subchannel_pool", 1)]) as client:
        for _ in range(10):
            with pytest.raises(UnavailableError):
                client.get_model()
    assert len(server.calls) < 20  # 40 without it


def test_the_deadline_of_a_call(server, ask):
    """A call ends at its own timeout, and the error says which."""
    server.gate.clear()
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError, match=r"^no answer within 0\.2 s$"):
        ask("get_model", timeout=0.2)
    assert 0.15 < time.monotonic() - start < 1.5


def test_the_deadline_of_a_client(server):
    """A call that does not say ends at the client's timeout."""
    server.gate.clear()
    with (
        Client(server.address, timeout=0.1) as client,
        pytest.raises(DeadlineExceededError, match=r"within 0\.1 s"),
    ):
        client.get_model()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "2", True])
def test_a_timeout_that_is_none(server, ask, timeout):
    """A timeout is a positive number of seconds, for a call and for a client."""
    with pytest.raises(InvalidRequestError, match=r"^timeout: "):
        ask("get_model", timeout=timeout)
    with pytest.raises(InvalidRequestError, match=r"^timeout: "):
        Client(server.address, timeout=timeout)


def test_channel_options_win(server):
    """A caller's service config replaces the client's: without its policy nothing is repeated."""
    server.script = [UNAVAILABLE]
    options = [("grpc.service_config", "{}"), ("grpc.use_local_subchannel_pool", 1)]
    with (
        Client(server.address, channel_options=options) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_model()
    assert len(server.calls) == 1


def test_credentials_are_used(server):
    """With credentials the client speaks TLS, which a server in the clear does not."""
    credentials = grpc.ssl_channel_credentials()
    server.script = [pb.GetModelResponse()]
    with (
        Client(server.address, credentials=credentials) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_model()
    assert server.calls == []


def test_threads_share_a_client(server):
    """Calls of many threads over one client all get their answers."""
    server.script = [pb.GetModelResponse(name="shop")]
    with Client(server.address) as client, ThreadPoolExecutor(8) as threads:
        names = [model.name for model in threads.map(lambda _: client.get_model(), range(64))]
    assert names == ["shop"] * 64


def test_tasks_share_a_client(server):
    """Calls of many tasks over one client all get their answers."""
    server.script = [pb.GetModelResponse(name="shop")]

    async def main():
        async with AsyncClient(server.address) as client:
            return await asyncio.gather(*(client.get_model() for _ in range(64)))

    assert [model.name for model in asyncio.run(main())] == ["shop"] * 64


def test_a_closed_client(server):
    """A closed client says that it is closed, and may be closed again."""
    client = Client(server.address)
    client.close()
    client.close()
    with pytest.raises(ClientClosedError, match=r"^the client is closed$"):
        client.get_model()


def test_a_closed_async_client(server):
    """A closed client says that it is closed, and may be closed again."""

    async def main():
        client = AsyncClient(server.address)
        await client.close()
        await client.close()
        await client.get_model()

    with pytest.raises(ClientClosedError, match=r"^the client is closed$"):
        asyncio.run(main())


def test_closing_ends_calls_in_flight(server):
    """A call that another thread's close ends says that the client is closed."""
    server.gate.clear()
    client = Client(server.address)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.get_model, timeout=20)
        assert server.entered.wait(10)
        client.close()
        with pytest.raises(ClientClosedError):
            call.result(10)


def test_closing_ends_awaited_calls(server):
    """A call that another task's close ends is not taken for a cancelled task."""
    server.gate.clear()

    async def main():
        client = AsyncClient(server.address)
        task = asyncio.create_task(client.get_model(timeout=20))
        await asyncio.to_thread(server.entered.wait, 10)
        await client.close()
        with pytest.raises(ClientClosedError):
            await task

    asyncio.run(main())


def test_cancellation_passes_through(server):
    """A cancelled task ends as cancelled, and the client goes on working."""
    server.gate.clear()
    server.script = [pb.GetModelResponse(name="shop")]

    async def main():
        async with AsyncClient(server.address) as client:
            task = asyncio.create_task(client.get_model(timeout=20))
            await asyncio.to_thread(server.entered.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            server.gate.set()
            return await client.get_model()

    assert asyncio.run(main()).name == "shop"


def test_an_async_timeout_passes_through(server):
    """asyncio.timeout around a call ends it as a TimeoutError."""
    server.gate.clear()

    async def main():
        async with AsyncClient(server.address) as client, asyncio.timeout(0.1):
            await client.get_model(timeout=20)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_an_async_client_may_be_made_outside_of_a_loop(server):
    """A client made before the loop runs works in it."""
    server.script = [pb.GetModelResponse(name="shop")]
    client = AsyncClient(server.address)

    async def main():
        async with client:
            return await client.get_model()

    assert asyncio.run(main()).name == "shop"


def test_a_restarted_server_is_found_again(server):
    """A client outlives its server's restart on the same port."""
    server.script = [pb.GetModelResponse(name="shop")]
    first = grpc.server(ThreadPoolExecutor(2), handlers=[server])
    port = first.add_insecure_port("127.0.0.1:0")
    first.start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with Client(f"127.0.0.1:{port}", timeout=10, channel_options=options) as client:
        assert client.get_model().name == "shop"
        assert first.stop(0).wait(10)
        second = grpc.server(ThreadPoolExecutor(2), handlers=[server])
        second.add_insecure_port(f"127.0.0.1:{port}")
        second.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert client.get_model().name == "shop"
                break
            except UnavailableError:
                assert time.monotonic() < deadline
                threading.Event().wait(0.05)
        assert second.stop(0).wait(10)
