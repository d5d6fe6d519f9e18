"""Calls whose message does not come: they hold up nobody."""

import subprocess
import sys
import threading
import time

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from kinrec.server.admission import Limit
from kinrec.server.app import MOST_HELD
from kinrec.server.inner_grpc import held, known, more, reader
from kinrec.server.line import Line
from kinrec.server.security.tokens import digest_of, new_token
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

SERVICE = "/kinrec.v1.RecommenderService"
REQUEST = pb.RecommendRequest(user_id="u")
MANY = 30  # more than any pool has threads


@pytest.fixture
def begin(start_server, engine, open_channel):
    """A server, and what begins calls on it that send nothing until an event is set, then one message."""
    server = start_server(engine)
    channel, go_on = open_channel(server), threading.Event()

    def messages(message):
        go_on.wait(20)
        yield from message

    def begin_calls(method, *message, count=MANY, timeout=20):
        call = channel.stream_unary(method)
        found = [call.future(messages(message), timeout=timeout) for _ in range(count)]
        time.sleep(0.2)
        return found

    yield server, begin_calls, go_on
    go_on.set()


def test_the_installed_grpc_is_known():
    """Otherwise a server goes on as gRPC has it."""
    assert known.IS_KNOWN


@pytest.mark.parametrize(
    "method",
    [
        f"{SERVICE}/Recommend",
        f"{SERVICE}/BatchRecommend",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    ],
)
def test_calls_that_send_nothing_hold_up_no_others(begin, open_channel, method):
    """However many of whatever method there are: calls are answered, and so is health."""
    server, begin_calls, go_on = begin
    begun = begin_calls(method)

    channel = open_channel(server)
    stub = RecommenderServiceStub(channel)
    assert stub.Recommend(REQUEST, timeout=5).recommendations
    batch = pb.BatchRecommendRequest(requests=[REQUEST])
    assert stub.BatchRecommend(batch, timeout=5).results
    health = HealthStub(channel)
    check = HealthCheckRequest()
    assert health.Check(check, timeout=5).status == HealthCheckResponse.SERVING
    assert next(health.Watch(check, timeout=5)).status == HealthCheckResponse.SERVING
    assert not any(call.done() for call in begun)
    go_on.set()


def test_they_are_answered_when_their_message_comes(begin, engine):
    """As any other call."""
    _, begin_calls, go_on = begin
    begun = begin_calls(f"{SERVICE}/Recommend", REQUEST.SerializeToString(), count=40)
    assert not engine.asked
    go_on.set()
    answers = [pb.RecommendResponse.FromString(call.result(10)) for call in begun]
    assert all(answer.recommendations for answer in answers)
    assert len(engine.asked) == 40


def test_a_call_that_ends_without_a_message_fails(begin, open_channel):
    """It is told what was wrong; the engine is not asked."""
    server, begin_calls, go_on = begin
    go_on.set()
    begun = begin_calls(f"{SERVICE}/Recommend", count=40)
    codes = {call.exception(timeout=10).code() for call in begun}
    assert codes == {grpc.StatusCode.UNIMPLEMENTED}
    assert "without the one message" in begun[0].exception().details()
    stub = RecommenderServiceStub(open_channel(server))
    assert stub.Recommend(REQUEST, timeout=5).recommendations


@pytest.mark.parametrize("is_late", [False, True])
def test_a_call_that_nobody_waits_for_any_more_is_forgotten(begin, open_channel, engine, is_late):
    """Whether it was cancelled before its message came, or its deadline passed."""
    server, begin_calls, go_on = begin
    message = REQUEST.SerializeToString()
    begun = begin_calls(f"{SERVICE}/Recommend", message, count=40, timeout=0.5 if is_late else 20)
    if not is_late:
        for call in begun:
            call.cancel()
    code = grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
    for call in begun:
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result(10)
        assert call.code() == code
    go_on.set()
    assert RecommenderServiceStub(open_channel(server)).Recommend(REQUEST, timeout=5)
    assert len(engine.asked) == 1


@pytest.mark.parametrize("method", [f"{SERVICE}/Recommend", "/grpc.health.v1.Health/Check"])
def test_of_very_many_those_that_came_first_are_ended(
    begin, open_channel, monkeypatch, caplog, method
):
    """So that they take no more memory than that; others are let in however many there are."""
    server, begin_calls, _ = begin
    monkeypatch.setattr(held, "_LEAST_SECONDS", 60.0)
    begun = begin_calls(method, count=MOST_HELD + 60)
    assert not any(call.done() for call in begun)  # they may have come at once with their messages
    monkeypatch.setattr(held, "_LEAST_SECONDS", 0.0)
    begin_calls(method, count=1)
    channel = open_channel(server)
    assert RecommenderServiceStub(channel).Recommend(REQUEST, timeout=5).recommendations
    assert HealthStub(channel).Check(HealthCheckRequest(), timeout=5).status
    ended = [call for call in begun if call.done()]
    assert len(ended) >= 60
    assert {call.exception().code() for call in ended} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert "the message of this call had not" in ended[0].exception().details()
    assert "grpc-status-details-bin" in dict(ended[0].exception().trailing_metadata())
    logged = {one.method for one in caplog.records if getattr(one, "reason", "") == "UNAVAILABLE"}
    assert logged == ({"Recommend"} if method.startswith(SERVICE) else set())


def test_whose_calls_are_ended_is_logged(  # noqa: PLR0917 - fixtures
    start_server, engine, open_channel, monkeypatch, caplog, tmp_path
):
    """Under the name of the token with which they came."""
    monkeypatch.setattr(held, "_LEAST_SECONDS", 0.0)
    token, file = new_token(), tmp_path / "tokens.toml"
    file.write_text(f'[[tokens]]\nname = "web-shop"\nsha256 = "{digest_of(token)}"\n')
    call = open_channel(start_server(engine, tokens=file)).stream_unary(f"{SERVICE}/Recommend")
    go_on = threading.Event()

    def nothing():
        go_on.wait(20)
        yield from ()

    own = (("authorization", f"Bearer {token}"),)
    begun = [call.future(nothing(), metadata=own, timeout=20) for _ in range(MOST_HELD + 5)]
    deadline = time.monotonic() + 10
    while sum(one.done() for one in begun) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    logged = {one.caller for one in caplog.records if getattr(one, "reason", "") == "UNAVAILABLE"}
    assert logged == {"web-shop"}


def test_a_call_that_is_cancelled_in_line_is_not_worked_on(begin, open_channel, engine):
    """Though its message had come."""
    server, _, _ = begin
    engine.gate.clear()
    stub = RecommenderServiceStub(open_channel(server))
    first = stub.Recommend.future(REQUEST, timeout=20)
    assert engine.entered.wait(10)
    request = pb.SimilarItemsRequest(item_id="i")
    others = [stub.SimilarItems.future(request, timeout=20) for _ in range(5)]
    time.sleep(0.2)
    for call in others:
        call.cancel()
    time.sleep(0.2)
    engine.gate.set()
    assert first.result(10).recommendations
    assert stub.Recommend(REQUEST, timeout=5).recommendations
    assert len(engine.asked) == 2


def test_what_comes_while_a_call_takes_long_is_read(begin, open_channel, engine):
    """Also if many come; calls are answered in their turn, and what needs no turn is before it."""
    server, begin_calls, go_on = begin
    engine.gate.clear()
    channel = open_channel(server)
    stub = RecommenderServiceStub(channel)
    first = stub.Recommend.future(REQUEST, timeout=20)
    assert engine.entered.wait(10)
    others = [stub.Recommend.future(REQUEST, timeout=20) for _ in range(40)]
    begun = begin_calls(f"{SERVICE}/Recommend")
    check = HealthCheckRequest()
    for _ in range(3):
        assert HealthStub(channel).Check(check, timeout=5).status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}/NoSuchMethod")(b"", timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not any(call.done() for call in [first, *others, *begun])
    engine.gate.set()
    assert all(call.result(10).recommendations for call in [first, *others])
    go_on.set()


def test_a_gate_that_fails_lets_calls_in(begin, open_channel, monkeypatch, caplog):
    """Nothing is read any more once the thread ends that asks it."""
    server, _, _ = begin

    def fail(_limits, _deadline):
        raise ZeroDivisionError

    monkeypatch.setattr(Limit, "check", fail)
    stub = RecommenderServiceStub(open_channel(server))
    for _ in range(2):
        assert stub.Recommend(REQUEST, timeout=5).recommendations
    assert "whether a call is let in could not be told" in caplog.text


def test_a_server_that_stops_ends_them(begin):
    """When the time that it gives calls is over."""
    server, begin_calls, _ = begin
    begun = begin_calls(f"{SERVICE}/Recommend")
    assert server.stop(0.1).wait(10)
    codes = {call.exception(timeout=10).code() for call in begun}
    assert codes <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def test_a_server_stops_while_it_refuses_calls(engine, start_server, open_channel):
    """Each call ends in one of the ways that callers know, and the server does."""
    server = start_server(engine, concurrency=1, max_wait=0.05)
    stub = RecommenderServiceStub(open_channel(server))
    server._pool.work.step = 0.02
    engine.gate.clear()
    calls = [stub.Recommend.future(REQUEST, timeout=30)]
    assert engine.entered.wait(10)
    calls += [stub.Recommend.future(REQUEST, timeout=30) for _ in range(300)]
    assert calls[-1].exception(timeout=10).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    calls += [stub.Recommend.future(REQUEST, timeout=30) for _ in range(300)]
    stopped = server.stop(20)
    engine.gate.set()
    assert stopped.wait(10)
    ended = {call.exception(timeout=10) and call.exception().code() for call in calls}
    assert {None, grpc.StatusCode.RESOURCE_EXHAUSTED} <= ended
    # The last ones may have come when it took no more.
    late = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert ended <= {None, grpc.StatusCode.RESOURCE_EXHAUSTED} | late


def test_a_server_awaits_as_many_calls_of_a_method_as_it_has_asked_for():
    """It has stopped when all that it asked for have come back."""
    due = more._Due(["a", "b"])
    due.add("a")
    due.remove("a")
    due.remove("b")
    assert due
    due.remove("a")
    assert not due
    with pytest.raises(KeyError):
        due.remove("a")


def test_bytes_that_are_no_message_are_told_so(begin):
    """Of a call that was held, as of any other."""
    _, begin_calls, go_on = begin
    go_on.set()
    (call,) = begin_calls(f"{SERVICE}/Recommend", b"\xff\xff", count=1)
    assert call.exception(timeout=10).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_with_a_grpc_that_is_made_otherwise_calls_are_answered_as_it_has_it(
    engine, start_server, open_channel, monkeypatch, caplog
):
    """Each takes a thread, and the log says so at the start."""
    monkeypatch.setattr(known, "IS_KNOWN", False)
    engine.gate.clear()
    channel = open_channel(start_server(engine))
    stub = RecommenderServiceStub(channel)
    calls = [stub.Recommend.future(REQUEST, timeout=20) for _ in range(8)]
    deadline = time.monotonic() + 10
    while len(engine.asked) < len(calls) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(engine.asked) == len(calls)
    engine.gate.set()
    assert all(call.result(10).recommendations for call in calls)
    check = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
    assert check.status == HealthCheckResponse.SERVING
    assert "not one that is known here" in caplog.text


def test_all_is_read_when_it_was_looked_twice(monkeypatch):
    """Of several sockets gRPC looks at one at a time, so that one look may miss what has come."""
    line = Line(8)
    one = reader.Reader(None, line)
    came = iter([True, False, True, True, False, False])
    monkeypatch.setattr(one, "_read", lambda: next(came))
    assert one._read_all(line.is_due)
    assert next(came, "all were seen") == "all were seen"
    line.put(lambda: None)
    monkeypatch.setattr(line, "_due", 0.0)
    monkeypatch.setattr(one, "_read", lambda: True)
    assert not one._read_all(line.is_due)
    line.end()


def test_a_stream_for_which_there_is_no_thread_is_ended(
    engine, start_server, open_channel, monkeypatch
):
    """And nothing else is: calls and health are answered, and streams when there are threads again."""
    begin_thread, threads = threading.Thread.start, []

    def begin_some(thread):
        if thread.name.startswith("stream") and len(threads) == 2:
            raise RuntimeError("can't start new thread")
        if thread.name.startswith("stream"):
            threads.append(thread)
        begin_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_some)
    channel, go_on = open_channel(start_server(engine, max_streams=8)), threading.Event()
    stub = RecommenderServiceStub(channel)

    def messages():
        yield pb.RecommendStreamRequest(start=REQUEST)
        go_on.wait(20)

    streams = []
    for _ in range(4):
        streams.append(stub.RecommendStream(messages(), timeout=20))
        time.sleep(0.1)
    codes = [stream.exception().code() for stream in streams if stream.done()]
    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
    assert stub.Recommend(REQUEST, timeout=5).recommendations
    assert HealthStub(channel).Check(HealthCheckRequest(), timeout=5).status
    monkeypatch.setattr(threading.Thread, "start", begin_thread)
    assert next(stub.RecommendStream(messages(), timeout=5))
    go_on.set()


def test_a_process_that_can_read_no_more_calls_ends():
    """It would live and answer nothing."""
    script = """
import time, grpc
from grpc import _server
from kinrec.server.call_pool import CallPool
from kinrec.server.inner_grpc.held import Held
from kinrec.server.line import Line

server = grpc.server(CallPool(Line(4), Held(1, None)))
address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
server.start()

def fail(state, event):
    raise MemoryError("of the test")

_server._process_event_and_continue = fail
channel = grpc.insecure_channel(address)
call = channel.unary_unary("/a/B").future(b"", timeout=20)
time.sleep(20)
"""
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, timeout=60, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "calls can no longer be read" in ended.stderr
    assert "of the test" in ended.stderr


def test_a_stop_waits_for_what_is_being_read(start_server, engine, open_channel):
    """The thread that reads does not rest when something has come."""
    server = start_server(engine)
    stub = RecommenderServiceStub(open_channel(server))
    assert stub.Recommend(REQUEST, timeout=5).recommendations
    gate, entered = server._pool.gate, threading.Event()

    def slowly(method, metadata, time_left):
        entered.set()
        time.sleep(0.05)
        return gate(method, metadata, time_left)

    time.sleep(0.1)  # it rests
    server._pool.gate = slowly
    calls = [stub.Recommend.future(REQUEST, timeout=20) for _ in range(10)]
    assert entered.wait(10)
    stopped = server.stop(10)
    assert all(call.result(10).recommendations for call in calls)
    assert stopped.wait(10)
