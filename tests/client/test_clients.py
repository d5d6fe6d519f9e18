"""Both clients against a real server: deadlines, retries, threads, tasks and ends."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kinrec.client import (
    AsyncClient,
    Client,
    ClientClosedError,
    DeadlineExceededError,
    Event,
    InvalidRequestError,
    KinrecError,
    UnavailableError,
)
from kinrec.v1 import recommender_pb2 as pb

from .conftest import Refusal, rich_details

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "busy", rich_details("UNAVAILABLE"))


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
    """After five attempts the caller hears of it."""
    server.script = [UNAVAILABLE]
    with pytest.raises(UnavailableError, match=r"^busy$"):
        ask("get_model")
    assert len(server.calls) == 5


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


def test_a_call_that_a_server_dropped_is_repeated(server, ask):
    """A server that stops ends with CANCELLED what it has not begun."""
    server.script = [Refusal(grpc.StatusCode.CANCELLED), pb.GetModelResponse(name="shop")]
    assert ask("get_model").name == "shop"


def test_repeats_stop_while_most_calls_fail(server):
    """Under steady failure the throttle lets 200 calls be repeated, and few after that."""
    server.script = [UNAVAILABLE]

    def fails(_number):
        with pytest.raises(UnavailableError):
            client.get_model(timeout=30)

    with Client(server.address) as client, ThreadPoolExecutor(32) as threads:
        list(threads.map(fails, range(300)))
    assert len(server.calls) < 600  # 1,200 without it


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
