"""Clients of several servers: which of them is asked, and what happens when one drains or dies."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from kinrec.client import AsyncClient, Client, InvalidRequestError, UnavailableError
from kinrec.client._calls import SERVICE
from kinrec.client._channel import ChannelConfig
from kinrec.v1 import recommender_pb2 as pb

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Replica(grpc.GenericRpcHandler):
    """A server that gives its name as that of its model."""

    def __init__(self, name: str, *, health: bool = True, port: int = 0) -> None:
        self.name = name
        self.health = HealthServicer(experimental_non_blocking=True)
        self.server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        if health:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
            self.says(SERVING)
        self.address = f"127.0.0.1:{self.server.add_insecure_port(f'127.0.0.1:{port}')}"
        self.server.start()

    def says(self, status) -> None:
        """Change the health."""
        self.health.set(SERVICE, status)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Take the calls of the service alone."""
        if not details.method.startswith(f"/{SERVICE}/"):
            return None
        answer = pb.GetModelResponse(name=self.name).SerializeToString()
        return grpc.unary_unary_rpc_method_handler(lambda _data, _context: answer)


@pytest.fixture
def replicas():
    """Start three servers that are called a, b and c."""
    started = [Replica(name) for name in "abc"]
    yield started
    for replica in started:
        assert replica.server.stop(0).wait(10)


def answering(client, wanted):
    """Ask until those who answer 12 calls in a row are the wanted ones, for at most 10 s."""
    end, found = time.monotonic() + 10, None
    while found != wanted and time.monotonic() < end:
        found = {client.get_model().name for _ in range(12)}
    return found


def test_a_call_outlives_a_connection_that_breaks_as_it_is_made():
    """As one to a worker that was killed before it accepted: the next is made soon enough."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            Client(f"127.0.0.1:{port}", timeout=5) as client,
            ThreadPoolExecutor(1) as thread,
        ):
            asked = thread.submit(client.get_model)
            listener.accept()[0].close()
            listener.close()
            replica = Replica("late", port=port)
            try:
                assert asked.result(10).name == "late"
            finally:
                assert replica.server.stop(0).wait(10)


@pytest.mark.parametrize("write", [list, tuple, ",".join, lambda all_: "ipv4:" + ",".join(all_)])
def test_calls_go_to_all_addresses(replicas, write):
    """Several addresses, however they are written, share the calls."""
    with Client(write([replica.address for replica in replicas])) as client:
        assert answering(client, {"a", "b", "c"}) == {"a", "b", "c"}


def test_an_awaited_client_takes_several_addresses(replicas):
    """The client for asyncio shares its calls out as well."""

    async def ask():
        async with AsyncClient([replica.address for replica in replicas]) as client:
            return {(await client.get_model()).name for _ in range(200)}

    assert asyncio.run(ask()) == {"a", "b", "c"}


def test_a_server_that_drains_gets_no_calls(replicas):
    """Who says NOT_SERVING is not asked, and is asked again when it serves."""
    with Client([replica.address for replica in replicas]) as client:
        assert answering(client, {"a", "b", "c"}) == {"a", "b", "c"}
        replicas[1].says(NOT_SERVING)
        assert answering(client, {"a", "c"}) == {"a", "c"}
        replicas[1].says(SERVING)
        assert answering(client, {"a", "b", "c"}) == {"a", "b", "c"}


def test_without_a_watch_a_server_that_drains_is_asked(replicas):
    """Health is not looked at with one address, or where the caller says so."""
    replicas[0].says(NOT_SERVING)
    with Client(replicas[0].address) as client:
        assert client.get_model().name == "a"
    addresses = [replica.address for replica in replicas]
    with Client(addresses, watch_health=False) as client:
        assert answering(client, {"a", "b", "c"}) == {"a", "b", "c"}


def test_when_all_drain_no_call_is_made(replicas):
    """With nobody to ask the client says so; one address is watched if the caller wants it."""
    replicas[0].says(NOT_SERVING)
    with (
        Client(replicas[0].address, watch_health=True) as client,
        pytest.raises(UnavailableError, match=r"^no server could be reached at "),
    ):
        client.get_model()


def test_a_server_without_health_is_asked():
    """Who does not have the health service counts as serving."""
    replica = Replica("bare", health=False)
    with Client(replica.address, watch_health=True) as client:
        assert client.get_model().name == "bare"
    assert replica.server.stop(0).wait(10)


def test_a_server_that_dies_costs_no_call(replicas):
    """Calls under way to a server that dies are repeated elsewhere, however many they are."""
    with Client([replica.address for replica in replicas], timeout=10) as client:
        assert answering(client, {"a", "b", "c"}) == {"a", "b", "c"}
        with ThreadPoolExecutor(64) as threads:
            calls = [threads.submit(client.get_model) for _ in range(3000)]
            replicas[0].server.stop(0)
            assert {call.result().name for call in calls} >= {"b", "c"}


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("localhost:50051", "localhost:50051"),
        (["localhost:50051"], "localhost:50051"),
        ("dns:///shop:50051", "dns:///shop:50051"),
        ("10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("10.0.0.1:1, 10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (("[::1]:1", "[::2]:2"), "ipv6:[::1]:1,[::2]:2"),
        ("ipv6:[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2"),
    ],
)
def test_targets(given, target):
    """What gRPC is told."""
    assert ChannelConfig(given).target == target


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["10.0.0.1:1", ""],
        ["10.0.0.1:1", 2],
        "10.0.0.1:1,10.0.0.2",
        "10.0.0.1:1,[::1]:1",
        "shop-1:50051,shop-2:50051",
        ["::1:1", "::2:2"],
        {"10.0.0.1:1"},
    ],
)
def test_addresses_that_are_none(given):
    """Several addresses that gRPC cannot take together are refused when the client is made."""
    with pytest.raises(InvalidRequestError, match=r"^target: "):
        ChannelConfig(given)


def test_a_watch_that_is_none():
    """The watch is switched by a truth value."""
    with pytest.raises(InvalidRequestError, match=r"^watch_health: "):
        Client("localhost:50051", watch_health="yes")
