import threading
import time

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

SERVICES = ["", "kinrec.v1.RecommenderService"]


def wait_until(condition):
    """Wait for a condition, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("service", SERVICES)
def test_check_follows_the_drain(engine, start_server, open_channel, service):
    """Every service is SERVING once started and NOT_SERVING once the drain is announced."""
    server = start_server(engine)
    health = HealthStub(open_channel(server))
    request = HealthCheckRequest(service=service)
    assert health.Check(request).status == HealthCheckResponse.SERVING
    server.announce_drain()
    assert health.Check(request).status == HealthCheckResponse.NOT_SERVING


def test_check_of_an_unknown_service_is_not_found(channel):
    """A service that the server does not have is NOT_FOUND."""
    with pytest.raises(grpc.RpcError) as caught:
        HealthStub(channel).Check(HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watch_is_told_of_the_drain_and_ended_by_the_stop(engine, start_server, open_channel):
    """A watcher sees SERVING, then NOT_SERVING, then UNAVAILABLE before the grace is over."""
    server = start_server(engine)
    watch = HealthStub(open_channel(server)).Watch(HealthCheckRequest(), timeout=20)
    assert next(watch).status == HealthCheckResponse.SERVING
    server.announce_drain()
    assert next(watch).status == HealthCheckResponse.NOT_SERVING
    started = time.monotonic()
    assert server.stop(15).wait(10)
    assert time.monotonic() - started < 5
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_watch_of_an_unknown_service_says_so_and_stays(channel):
    """The stream of an unknown service says SERVICE_UNKNOWN and is not ended."""
    watch = HealthStub(channel).Watch(HealthCheckRequest(service="other"), timeout=20)
    assert next(watch).status == HealthCheckResponse.SERVICE_UNKNOWN
    assert watch.is_active()
    watch.cancel()


def test_a_hundred_watchers_do_not_starve_calls(engine, start_server, open_channel):
    """With two threads and a hundred open watches, calls and checks are answered at once."""
    server = start_server(engine, concurrency=2)
    channel = open_channel(server)
    health = HealthStub(channel)
    watches = [health.Watch(HealthCheckRequest(), timeout=60) for _ in range(100)]
    for watch in watches:
        assert next(watch).status == HealthCheckResponse.SERVING
    stub = RecommenderServiceStub(channel)
    for _ in range(20):
        assert stub.Recommend(pb.RecommendRequest(user_id="u"), timeout=5).recommendations
    assert health.Check(HealthCheckRequest(), timeout=5).status == HealthCheckResponse.SERVING
    server.announce_drain()
    for watch in watches:
        assert next(watch).status == HealthCheckResponse.NOT_SERVING


def test_checks_are_answered_while_all_call_threads_are_busy(engine, start_server, open_channel):
    """A server with more to do than it has threads for is alive, and says so."""
    engine.gate.clear()
    server = start_server(engine, concurrency=1)
    channel = open_channel(server)
    call = RecommenderServiceStub(channel).Recommend.future(pb.RecommendRequest(user_id="u"))
    assert engine.entered.wait(10)
    health = HealthStub(channel)
    assert health.Check(HealthCheckRequest(), timeout=5).status == HealthCheckResponse.SERVING
    watch = health.Watch(HealthCheckRequest(), timeout=5)
    assert next(watch).status == HealthCheckResponse.SERVING
    watch.cancel()
    engine.gate.set()
    assert call.result(10).recommendations


def test_watches_beyond_the_limit_are_refused_until_one_leaves(engine, start_server, open_channel):
    """One watch too many is RESOURCE_EXHAUSTED; a place that is given up can be taken."""
    server = start_server(engine, max_watches=2)
    health = HealthStub(open_channel(server))
    watches = [health.Watch(HealthCheckRequest(), timeout=20) for _ in range(2)]
    for watch in watches:
        next(watch)
    with pytest.raises(grpc.RpcError) as caught:
        next(health.Watch(HealthCheckRequest(), timeout=20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    watches[0].cancel()

    def admitted():
        try:
            return next(health.Watch(HealthCheckRequest(), timeout=20)) is not None
        except grpc.RpcError:
            return False

    wait_until(admitted)


def test_watchers_that_come_and_go_do_not_hang_the_server(engine, start_server, open_channel):
    """Eight clients that open and cancel watches for a second leave a server that answers."""
    server = start_server(engine)
    stop = time.monotonic() + 1
    failures = []

    def churn():
        health = HealthStub(open_channel(server))
        while time.monotonic() < stop:
            watch = health.Watch(HealthCheckRequest(), timeout=10)
            try:
                next(watch)
            except grpc.RpcError as error:
                failures.append(error)
                return
            watch.cancel()

    threads = [threading.Thread(target=churn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    check = HealthStub(open_channel(server)).Check(HealthCheckRequest(), timeout=5)
    assert check.status == HealthCheckResponse.SERVING
    wait_until(lambda: not server._health._watches)
