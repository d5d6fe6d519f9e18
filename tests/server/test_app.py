import gc
import socket
import threading
import time
import weakref

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.server.port import PortError
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub


def test_reflection_lists_the_services_and_describes_them(engine, start_server, open_channel):
    """Where it is on, a client without the protos can find the service and its messages."""
    channel = open_channel(start_server(engine, reflection=True))
    reflect = ServerReflectionStub(channel).ServerReflectionInfo
    requests = [
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="kinrec.v1.RecommenderService"),
    ]
    listed, described = reflect(iter(requests), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        "kinrec.v1.RecommenderService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


def test_reflection_is_off_by_default(channel):
    """Nobody is told of the services who does not know them."""
    reflect = ServerReflectionStub(channel).ServerReflectionInfo
    with pytest.raises(grpc.RpcError) as caught:
        list(reflect(iter([ServerReflectionRequest(list_services="")]), timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_open_reflection_streams_do_not_starve_calls(engine, start_server, open_channel):
    """Reflection streams left open, more than there are threads, hold up no call."""
    channel = open_channel(start_server(engine, concurrency=2, reflection=True))
    done = threading.Event()

    def requests():
        yield ServerReflectionRequest(list_services="")
        done.wait(30)

    reflect = ServerReflectionStub(channel).ServerReflectionInfo
    streams = [reflect(requests(), timeout=30)]
    next(streams[0])  # before the others, of whom any could have the threads first
    streams += [reflect(requests(), timeout=30) for _ in range(20)]
    stub = RecommenderServiceStub(channel)
    assert stub.Recommend(pb.RecommendRequest(user_id="u"), timeout=5).recommendations
    done.set()
    for stream in streams:
        stream.cancel()


def test_a_stop_lets_the_calls_in_flight_end(engine, start_server, open_channel):
    """After stop a call in flight is answered, and a new one is refused."""
    engine.gate.clear()
    server = start_server(engine)
    stub = RecommenderServiceStub(open_channel(server))
    call = stub.Recommend.future(pb.RecommendRequest(user_id="u"), timeout=20)
    assert engine.entered.wait(10)
    stopped = server.stop(10)
    with pytest.raises(grpc.RpcError) as caught:
        RecommenderServiceStub(open_channel(server)).GetModel(pb.GetModelRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not stopped.is_set()
    engine.gate.set()
    assert call.result(10).recommendations
    assert stopped.wait(10)


def test_a_stop_lets_the_calls_end_that_have_come_and_are_not_read(
    engine, start_server, open_channel, monkeypatch
):
    """Those that came while others were in work are in flight as well."""
    answer, entered = engine.answer, threading.Event()

    def slowly(query):
        entered.set()
        time.sleep(0.09)
        return answer(query)

    server = start_server(engine)
    stub = RecommenderServiceStub(open_channel(server))
    request = pb.RecommendRequest(user_id="u")
    assert stub.Recommend(request, timeout=5).recommendations
    monkeypatch.setattr(engine, "answer", slowly)
    first = stub.Recommend.future(request, timeout=20)
    assert entered.wait(10)
    monkeypatch.setattr(engine, "answer", answer)
    others = [stub.Recommend.future(request, timeout=20) for _ in range(20)]
    time.sleep(0.05)
    assert server.stop(10).wait(10)
    assert all(call.result(10).recommendations for call in [first, *others])


def test_a_stop_cancels_what_outlives_the_grace(engine, start_server, open_channel):
    """A call that does not end within the grace is cancelled, so that the server ends."""
    engine.gate.clear()
    server = start_server(engine)
    stub = RecommenderServiceStub(open_channel(server))
    call = stub.Recommend.future(pb.RecommendRequest(user_id="u"), timeout=20)
    assert engine.entered.wait(10)
    assert server.stop(0.1).wait(10)
    assert call.exception(10) is not None
    engine.gate.set()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_refused_with_the_reason(engine, host):
    """Another listener on one of the host's addresses is named as the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortError, match=f"cannot listen on {host}:{port}: .*in use"):
            RecommenderServer(Engines(engine), ServerConfig(host=host, port=port))


def test_two_servers_do_not_share_a_port(engine, start_server):
    """A second server on the port of a first is refused, not given half of its calls."""
    server = start_server(engine)
    with pytest.raises(PortError, match="in use"):
        RecommenderServer(Engines(engine), ServerConfig(port=server.port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(engine, host):
    """An address that is not this machine's, or not known, is refused by name."""
    with pytest.raises(PortError, match=f"cannot listen on {host}:0: "):
        RecommenderServer(Engines(engine), ServerConfig(host=host, port=0, insecure=True))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"host": ""}, "host"),
        ({"port": -1}, "port"),
        ({"port": 65_536}, "port"),
        ({"concurrency": 0}, "concurrency"),
        ({"drain_wait": -1}, "drain_wait"),
        ({"grace": float("nan")}, "grace"),
        ({"max_watches": 0}, "max_watches"),
        ({"previous_hours": float("nan")}, "previous_hours"),
        ({"max_connection_age": 0}, "max_connection_age"),
        ({"max_connection_age_grace": -1}, "max_connection_age_grace"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_concurrent_streams": 0}, "max_concurrent_streams"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, field):
    """Each setting has a range, and a value outside of it names the setting."""
    with pytest.raises(ValueError, match=f"^{field}: "):
        ServerConfig(**settings)


def test_addresses_are_written_as_grpc_takes_them():
    """An IPv6 address stands in brackets."""
    assert ServerConfig(host="::1", port=1).address() == "[::1]:1"
    assert ServerConfig(host="a", port=1).address(2) == "a:2"


def test_a_server_that_is_forgotten_stops(engine):
    """As one of gRPC's own does."""
    server = RecommenderServer(Engines(engine), ServerConfig(port=0))
    server.start()
    port, gone = server.port, weakref.ref(server)
    del server
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("its port is open")
