"""What the server bounds: connections, calls on a connection, pings."""

import json
import socket
import time

import grpc
import pytest

from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

REQUEST = pb.RecommendRequest(user_id="u")
RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def is_refused(stub):
    """Whether a call does not come through for want of a connection."""
    try:
        stub.Recommend(REQUEST, timeout=10)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return True
        raise
    return False


def test_many_connections(engine, start_server, open_channel):
    """Beyond the limit a connection is closed, and a place that is left is taken by the next."""
    server = start_server(engine, max_connections=2)
    channels = [open_channel(server) for _ in range(3)]
    stubs = [RecommenderServiceStub(channel) for channel in channels]
    assert [is_refused(stub) for stub in stubs] == [False, False, True]
    channels[0].close()
    for _ in range(100):
        if not is_refused(stubs[2]):
            return
        time.sleep(0.05)
    pytest.fail("the place stays taken")


def test_many_calls_on_a_connection(engine, start_server):
    """Calls beyond the limit are held back by the client, and come through one after the other."""
    engine.gate.clear()
    server = start_server(engine, max_concurrent_streams=2)
    # One that comes when another has been answered and has not wholly ended is refused: as the SDK
    # does, gRPC makes it again.
    with grpc.insecure_channel(server.address, [("grpc.service_config", RETRIES)]) as channel:
        stub = RecommenderServiceStub(channel)
        stub.GetModel(pb.GetModelRequest(), timeout=20)  # from here on the client knows the limit
        start = pb.RecommendStreamRequest(start=REQUEST)
        calls = [stub.RecommendStream(iter([start]), timeout=20) for _ in range(5)]
        assert engine.entered.wait(10)
        time.sleep(0.2)
        assert len(engine.asked) == 2
        engine.gate.set()
        assert all(next(call).response.recommendations and list(call) for call in calls)


def frame(kind, payload=b""):
    """A frame of HTTP/2 on the connection itself."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 0]) + payload


def test_many_pings(engine, start_server):
    """A client that pings more often than it may is told so, and its connection is closed."""
    server = start_server(engine)
    settings, ping = frame(4), frame(6, bytes(8))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + ping * 5)
        said = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"too_many_pings" in said


def test_an_old_connection_is_replaced(engine, start_server):
    """After its time a connection is closed, so that a new one may go to another replica."""
    server = start_server(engine, max_connection_age=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4))
        said = b""
        while b"max_age" not in said:  # a client that is well behaved closes it then
            more = connection.recv(4096)
            assert more, said
            said += more
