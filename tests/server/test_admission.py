"""What becomes of calls when there are more than a server can answer, and of those nobody waits for."""

import math
import threading
import time
from collections import Counter

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from kinrec.server import admission, line
from kinrec.server.admission import Limit
from kinrec.server.inner_grpc import reader
from kinrec.server.security.tokens import digest_of, new_token
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

REQUEST = pb.RecommendRequest(user_id="u")
WORK_SECONDS = 0.02


@pytest.fixture
def slow_engine(engine, monkeypatch):
    """An engine that takes ``WORK_SECONDS`` to answer."""
    answer = engine.answer

    def slowly(query):
        time.sleep(WORK_SECONDS)
        return answer(query)

    monkeypatch.setattr(engine, "answer", slowly)
    return engine


def learn_the_speed_of(engine, stub, **how):
    """Let a server see how long calls take, and have the calls that come next wait in line.

    Returns:
        The call that they wait for, until the engine's gate is opened.
    """
    for _ in range(20):  # it is learned from calls that wait for each other
        for future in [stub.Recommend.future(REQUEST, **how) for _ in range(4)]:
            future.result()
    engine.entered.clear()
    engine.gate.clear()
    first = stub.Recommend.future(REQUEST, **how)
    assert engine.entered.wait(10)
    return first


def details_of(error):
    """The details of a failed call, by type."""
    trailing = dict(error.trailing_metadata())
    status = Status.FromString(trailing["grpc-status-details-bin"])
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    return info, retry


def test_calls_that_would_wait_too_long_are_refused_at_once(
    slow_engine, start_server, open_channel
):
    """The others are answered; the refused are told when to come again; health answers meanwhile."""
    channel = open_channel(start_server(slow_engine, concurrency=1, max_wait=0.2))
    stub = RecommenderServiceStub(channel)
    first = learn_the_speed_of(slow_engine, stub, timeout=60)
    futures = [stub.Recommend.future(REQUEST, timeout=60) for _ in range(100)]
    assert futures[-1].exception(timeout=30) is not None
    health = HealthStub(channel).Check(HealthCheckRequest(), timeout=5)
    assert health.status == HealthCheckResponse.SERVING
    slow_engine.gate.set()
    assert first.result(30).recommendations
    errors = [error for future in futures if (error := future.exception(timeout=30)) is not None]
    assert Counter(error.code() for error in errors) == {
        grpc.StatusCode.RESOURCE_EXHAUSTED: len(errors)
    }
    # At most so many wait as are answered in the time.
    assert 1 <= 100 - len(errors) <= 15
    info, retry = details_of(errors[0])
    assert info.reason == "UNAVAILABLE"
    ids = {dict(error.trailing_metadata())["x-request-id"] for error in errors}
    assert len(ids) == len(errors)
    assert 0.1 < retry.retry_delay.ToTimedelta().total_seconds() < 2


def test_with_tokens_the_callers_of_refused_calls_are_logged(
    slow_engine, start_server, open_channel, tmp_path, caplog
):
    """And a call without one, or with one that does not allow it, is told so whatever there is to do."""
    token, file = new_token(), tmp_path / "tokens.toml"
    entry = f'[[tokens]]\nname = "web-shop"\nsha256 = "{digest_of(token)}"\n'
    file.write_text(f'{entry}rpcs = ["Recommend"]\n')
    channel = open_channel(start_server(slow_engine, concurrency=1, max_wait=0.2, tokens=file))
    stub = RecommenderServiceStub(channel)
    own = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 60}
    learn_the_speed_of(slow_engine, stub, **own)
    futures = [stub.Recommend.future(REQUEST, **own) for _ in range(100)]
    unknown = stub.Recommend.future(REQUEST, timeout=10).exception(timeout=10)
    assert unknown.code() == grpc.StatusCode.UNAUTHENTICATED
    not_allowed = stub.GetModel.future(pb.GetModelRequest(), **own).exception(timeout=10)
    assert not_allowed.code() == grpc.StatusCode.PERMISSION_DENIED
    slow_engine.gate.set()
    codes = {future.exception(timeout=30).code() for future in futures if future.exception()}
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    refused = [one for one in caplog.records if getattr(one, "reason", "") == "UNAVAILABLE"]
    assert {(one.caller, one.method) for one in refused} == {("web-shop", "Recommend")}


def test_a_usual_number_of_callers_is_let_in_however_slow_the_model_is(
    slow_engine, start_server, open_channel, monkeypatch
):
    """Unless it is said how long calls may wait, a hundred may, up to a second."""
    monkeypatch.setattr(admission, "_LONGEST_WAIT", 3.0)
    stub = RecommenderServiceStub(open_channel(start_server(slow_engine, concurrency=1)))
    first = learn_the_speed_of(slow_engine, stub, timeout=60)
    futures = [stub.Recommend.future(REQUEST, timeout=60) for _ in range(200)]
    assert futures[-1].exception(timeout=30) is not None
    slow_engine.gate.set()
    assert first.result(30).recommendations
    refused = [number for number, one in enumerate(futures) if one.exception(timeout=30)]
    assert 80 <= 200 - len(refused) <= 130
    assert min(refused) >= 64


@pytest.mark.parametrize("max_wait", [None, 0.1])
def test_batches_wait_for_each_other_however_long_they_take(
    slow_engine, start_server, open_channel, monkeypatch, max_wait
):
    """And calls do not wait for them."""
    monkeypatch.setattr(line, "_SMOOTHING", 1.0)  # how long they take is known after the first
    channel = open_channel(start_server(slow_engine, max_wait=max_wait))
    stub = RecommenderServiceStub(channel)
    batch = pb.BatchRecommendRequest(requests=[REQUEST] * 8)  # of .16 s each
    for _ in range(2):
        futures = [stub.BatchRecommend.future(batch, timeout=20) for _ in range(4)]
        began = time.monotonic()
        assert stub.Recommend(REQUEST, timeout=5).recommendations
        assert time.monotonic() - began < 0.3
        assert all(len(future.result(20).results) == 8 for future in futures)


@pytest.mark.parametrize(
    ("step", "longest"), [(0.0, 0.05), (0.0003, 0.05), (0.004, 0.4), (0.1, 1.0)]
)
def test_the_longest_wait_goes_by_how_long_calls_take(step, longest):
    """Within bounds: not shorter than a burst to a quick model needs, not longer than people wait."""
    assert admission._longest_wait(step) == pytest.approx(longest)


def test_calls_whose_messages_have_yet_to_come_count_as_well():
    """Until all that came is read: those of which nothing has come then keep nobody waiting."""
    calls = line.Line(8)
    calls.step = 0.01
    limit = Limit.of_calls(calls, max_wait=0.095)

    def lets_in(count=20):
        return sum(limit.check(math.inf) is None for _ in range(count))

    assert lets_in(7) == 7
    for _ in range(5):
        calls.put(lambda: None)
    assert lets_in() == 3  # 5 wait, of 2 the messages have yet to come
    calls.all_read()
    assert lets_in() == 5
    calls.do_some()
    calls.step, calls.working = 0.01, 0
    assert lets_in() == 10
    calls.end()


def test_calls_of_which_nothing_more_comes_shut_out_others_for_a_moment_only():
    """Nor those that are refused for another reason, nor streams, though ever more can be read."""
    calls, batches = line.Line(8), line.Line(1)
    calls.step, batches.step = 0.01, 0.1
    limits = [Limit.of_calls(calls, max_wait=0.05), Limit.of_batches(batches, calls, 0.5)]
    for limit in limits:
        assert any(limit.check(math.inf) is not None for _ in range(100))
    deadline = time.monotonic() + 5
    while not calls.is_due() and time.monotonic() < deadline:
        time.sleep(0.001)
    calls.do_some()  # though there is nothing to do
    assert not calls.is_due()
    assert all(limit.check(math.inf) is None for limit in limits)
    for one in (calls, batches):
        one.end()


def test_a_burst_that_can_be_answered_in_time_is(slow_engine, start_server, open_channel):
    """Nothing is refused for coming at once with others."""
    stub = RecommenderServiceStub(
        open_channel(start_server(slow_engine, concurrency=4, max_wait=5.0))
    )
    futures = [stub.Recommend.future(REQUEST, timeout=10) for _ in range(64)]
    assert all(future.result(10).recommendations for future in futures)


def test_the_work_of_a_call_that_was_cancelled_is_not_done(engine, start_server, open_channel):
    """Neither if it waited in line, nor if its deadline passed there."""
    engine.gate.clear()
    stub = RecommenderServiceStub(open_channel(start_server(engine, concurrency=1)))
    first = stub.Recommend.future(REQUEST, timeout=20)
    assert engine.entered.wait(10)
    cancelled = [stub.Recommend.future(REQUEST, timeout=20) for _ in range(5)]
    late = stub.Recommend.future(REQUEST, timeout=1)
    time.sleep(0.1)
    for future in cancelled:
        future.cancel()
    with pytest.raises(grpc.RpcError) as failed:
        late.result(10)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.2)
    engine.gate.set()
    assert first.result(10).recommendations
    assert stub.Recommend(REQUEST, timeout=10).recommendations
    assert len(engine.asked) == 2


@pytest.fixture
def ended(caplog):
    """Wait for calls to be logged, and give how each of a method ended."""
    caplog.set_level("INFO")

    def wait(method, count):
        deadline = time.monotonic() + 10
        found = []
        while len(found) < count and time.monotonic() < deadline:
            time.sleep(0.02)
            found = [one.code for one in caplog.records if getattr(one, "method", "") == method]
        return Counter(found)

    return wait


def test_calls_whose_answers_would_come_after_their_deadlines_are_refused(
    slow_engine, start_server, open_channel
):
    """At once, and nothing is done for them; those are answered that have the time."""
    stub = RecommenderServiceStub(
        open_channel(start_server(slow_engine, concurrency=4, max_wait=60.0))
    )
    first = learn_the_speed_of(slow_engine, stub, timeout=60)
    before = len(slow_engine.asked)
    waiting = [stub.Recommend.future(REQUEST, timeout=60) for _ in range(150)]  # for 3 s
    hasty = [stub.Recommend.future(REQUEST, timeout=1.5) for _ in range(5)]
    codes = {future.exception(timeout=10).code() for future in hasty}
    slow_engine.gate.set()
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(future.result(30).recommendations for future in [first, *waiting])
    assert len(slow_engine.asked) == before + 150


@pytest.mark.parametrize("is_late", [False, True])
def test_calls_that_end_in_line_are_counted(engine, start_server, open_channel, ended, is_late):
    """As callers see them: they have gone, or their deadlines have passed."""
    engine.gate.clear()
    stub = RecommenderServiceStub(open_channel(start_server(engine, concurrency=1)))
    first = stub.Recommend.future(REQUEST, timeout=20)
    assert engine.entered.wait(10)
    request = pb.SimilarItemsRequest(item_id="i")
    others = [stub.SimilarItems.future(request, timeout=1 if is_late else 20) for _ in range(5)]
    time.sleep(0.5)  # until they are read
    for future in others:
        if not is_late:
            future.cancel()
    time.sleep(0.7)
    engine.gate.set()
    assert first.result(10).recommendations
    assert ended("SimilarItems", 5) == {"DEADLINE_EXCEEDED" if is_late else "CANCELLED": 5}
    assert len(engine.asked) == 1


def test_an_answer_that_comes_after_the_deadline_is_not_counted_as_one(
    engine, start_server, open_channel, ended, monkeypatch
):
    """Its caller has not seen it."""
    answer, entered = engine.answer, threading.Event()

    def slowly(query):
        entered.set()
        time.sleep(0.8)
        return answer(query)

    monkeypatch.setattr(engine, "answer", slowly)
    monkeypatch.setattr(reader, "_LONG", 5.0)  # so that nobody reads meanwhile that it has passed
    stub = RecommenderServiceStub(open_channel(start_server(engine, concurrency=4)))
    late = stub.Recommend.future(REQUEST, timeout=0.5)
    assert entered.wait(10)
    assert late.exception(timeout=10).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended("Recommend", 1) == {"DEADLINE_EXCEEDED": 1}


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_that_jumps_stops_nothing(engine, start_server, open_channel, monkeypatch, years):
    """Waiting, limits and files that are watched go by a clock that nobody sets."""
    stub = RecommenderServiceStub(open_channel(start_server(engine)))
    stub.Recommend(REQUEST, timeout=10)
    jumped = time.time() + years * 365 * 86_400
    monkeypatch.setattr(time, "time", lambda: jumped)
    # Without a timeout: what gRPC makes of one in Python goes by the clock that has jumped.
    futures = [stub.Recommend.future(REQUEST) for _ in range(40)]
    assert all(future.result().recommendations for future in futures)
