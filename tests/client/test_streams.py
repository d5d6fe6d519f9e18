"""Streams of both clients: what they send, and how they end."""

import asyncio
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
    Options,
    ServerError,
    StreamClosedError,
    UnavailableError,
    UnknownUserError,
)
from kinrec.v1 import recommender_pb2 as pb

from .conftest import STREAM_END, Refusal, rich_details, stream_answers

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "busy", rich_details("UNAVAILABLE"))
LOST = "; the stream has ended; its state is that of its last answer"


def failure(code=grpc.StatusCode.INVALID_ARGUMENT, reason=1, message="bad"):
    """Give an answer that says why events were not applied."""
    told = pb.Failure(code=code.value[0], reason=reason, message=message)
    return pb.RecommendStreamResponse(failure=told)


class Stepper:
    """A stream of either client, one step after the other, from a thread without a loop."""

    def __init__(self, address, timeout, is_async):
        self._runner = asyncio.Runner() if is_async else None
        self.client = AsyncClient(address) if is_async else Client(address)
        self.timeout = timeout
        self.stream = None

    def open(self, *events, **more):
        """Open the stream and give its first answer."""
        stream = self.client.recommend_stream(
            [Event(item) for item in events], timeout=self.timeout, **more
        )
        self.stream = self._done(stream)
        return self.stream.first

    def send(self, *events):
        """Send events and give the answer."""
        return self._done(self.stream.send([Event(item) for item in events]))

    def close(self):
        """End the stream and give the state."""
        return self._done(self.stream.close())

    def close_client(self):
        """Close the client."""
        self._done(self.client.close())

    def end(self):
        """Let go of all."""
        self.close_client()
        if self._runner:
            self._runner.close()

    def _done(self, step):
        if self._runner is None:
            return step

        async def wait():
            return await step

        return self._runner.run(wait())


@pytest.fixture(params=["sync", "async"])
def step(request, server):
    """A stream, not open yet. Every test that steps holds for both clients."""
    stepper = Stepper(server.address, 5, request.param == "async")
    yield stepper
    stepper.end()


def sent(server):
    """What the server was sent."""
    return [pb.RecommendStreamRequest.FromString(data) for _, data in server.calls]


def test_every_message_is_answered(server, step):
    """The first asks, each later one brings events, and the state comes at the end."""
    server.script = [*stream_answers("v1", "v2", "v3"), STREAM_END]
    options = Options(diversity=0.5, reasons=True)
    first = step.open("a", user_id="u", limit=3, include_seen=True, options=options)
    assert first.model_version == "v1"
    assert step.stream.state == b""
    assert step.stream.is_open
    assert step.send("b").model_version == "v2"
    assert step.send("c", "d").model_version == "v3"
    assert step.close() == step.stream.state == b"state"
    assert not step.stream.is_open
    start, one, two, end = sent(server)
    assert start.start == pb.RecommendRequest(
        user_id="u",
        events=[pb.Event(item_id="a")],
        limit=3,
        include_seen=True,
        diversity=0.5,
        reasons=True,
    )
    assert [event.item_id for event in one.events.events] == ["b"]
    assert [event.item_id for event in two.events.events] == ["c", "d"]
    assert end == pb.RecommendStreamRequest()
    assert {method for method, _ in server.calls} == {
        "/kinrec.v1.RecommenderService/RecommendStream"
    }


def test_a_message_without_events_is_one(server, step):
    """An empty message is sent as events, and answered."""
    server.script = [*stream_answers("v1", "v2"), STREAM_END]
    step.open(user_id="u")
    assert step.send().model_version == "v2"
    assert sent(server)[1].WhichOneof("part") == "events"


def test_events_that_are_not_applied_leave_the_stream_open(server, step):
    """A failure is raised as the error of a call, and what cannot be sent is not."""
    server.script = [*stream_answers("v1"), failure(), *stream_answers("v2"), STREAM_END]
    step.open("a")
    with pytest.raises(InvalidRequestError, match=r"^bad$"):
        step.send("b")
    with pytest.raises(InvalidRequestError, match=r"^events\[0\]\.item_id: "):
        step.send(7)
    assert step.stream.is_open
    assert step.send("c").model_version == "v2"
    assert step.close() == b"state"
    assert len(server.calls) == 4


def test_a_closed_stream_takes_no_more(server, step):
    """It may be closed again and gives the same state."""
    server.script = [*stream_answers("v1"), STREAM_END]
    step.open("a")
    assert step.close() == step.close() == b"state"
    with pytest.raises(StreamClosedError, match=r"^the stream is closed$"):
        step.send("b")


def test_an_opening_that_is_refused(server, step):
    """It is the error of a call, and tells of no state."""
    server.script = [
        Refusal(grpc.StatusCode.NOT_FOUND, "user_id: not known", rich_details("UNKNOWN_USER"))
    ]
    with pytest.raises(UnknownUserError, match=r"^user_id: not known$"):
        step.open(user_id="nobody")


def test_an_opening_that_no_server_took_is_repeated(server, step):
    """Before the first answer nothing is lost by going to the next server."""
    server.script = [UNAVAILABLE, UNAVAILABLE, *stream_answers("v1"), STREAM_END]
    assert step.open("a").model_version == "v1"
    assert [message.start.events[0].item_id for message in sent(server)] == ["a"] * 3
    assert step.close() == b"state"


def test_a_stream_that_the_server_breaks_is_not_repeated(server, step):
    """The error says what state is left, and the stream takes no more."""
    server.script = [*stream_answers("v1"), UNAVAILABLE]
    step.open("a")
    with pytest.raises(UnavailableError) as raised:
        step.send("b")
    assert raised.value.message == f"busy{LOST}"
    assert raised.value.reason == "UNAVAILABLE"
    assert len(server.calls) == 2
    assert step.close() == b""
    with pytest.raises(StreamClosedError):
        step.send("c")
    assert len(server.calls) == 2


@pytest.mark.parametrize("line", [b"\xff\xff garbage", b"", STREAM_END])
def test_an_answer_that_is_none(server, step, line):
    """What cannot be read, or comes out of turn, breaks the stream."""
    server.script = [*stream_answers("v1"), line, line]
    step.open("a")
    with pytest.raises(ServerError, match="its state is that of its last answer"):
        step.send("b")
    assert not step.stream.is_open


def test_an_end_that_is_none(server, step):
    """A state that does not come is missed."""
    server.script = stream_answers("v1")
    step.open("a")
    with pytest.raises(ServerError, match="its state is that of its last answer"):
        step.close()
    assert step.stream.state == b""


def test_a_server_that_ends_without_an_answer(step):
    """A stream that ends well and without an answer is an error all the same."""

    class Silent(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.stream_stream_rpc_method_handler(lambda _messages, _context: iter(()))

    silent = grpc.server(ThreadPoolExecutor(1), handlers=[Silent()])
    port = silent.add_insecure_port("127.0.0.1:0")
    silent.start()
    step.close_client()
    step.client = type(step.client)(f"127.0.0.1:{port}")
    with pytest.raises(KinrecError, match=r"^the server ended the stream before its time$"):
        step.open("a")
    assert silent.stop(0).wait(10)


def test_the_deadline_of_an_answer(server, step):
    """Each answer has so long; one that does not come breaks the stream."""
    server.script = stream_answers("v1")
    step.timeout = 0.3
    step.open("a")
    time.sleep(0.5)  # between messages there is no deadline
    step.send("b")
    server.gate.clear()
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError) as raised:
        step.send("c")
    assert 0.2 < time.monotonic() - start < 2
    assert raised.value.message == f"no answer within 0.3 s{LOST}"
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not step.stream.is_open


def test_the_deadline_of_the_opening(server, step):
    """It is that of a call."""
    server.gate.clear()
    step.timeout = 0.2
    with pytest.raises(DeadlineExceededError, match=r"^no answer within 0\.2 s$"):
        step.open("a")


def test_nobody_listens(step):
    """A stream to nobody is unavailable."""
    step.close_client()
    step.client = type(step.client)("127.0.0.1:1")
    with pytest.raises(UnavailableError, match=r"^no server could be reached at 127.0.0.1:1$"):
        step.open("a")


@pytest.mark.parametrize("timeout", [0, "2", float("nan")])
def test_a_timeout_that_is_none(step, timeout):
    """It is refused before anything is opened."""
    step.timeout = timeout
    with pytest.raises(InvalidRequestError, match=r"^timeout: "):
        step.open("a")


def test_a_closed_client(server, step):
    """It opens no stream, and breaks those that are open."""
    server.script = stream_answers("v1")
    step.open("a")
    step.close_client()
    with pytest.raises(ClientClosedError):
        step.send("b")
    assert not step.stream.is_open
    with pytest.raises(ClientClosedError):
        step.open("a")


def test_a_stream_that_is_closed_is_waited_for(step, server):
    """To its status, though its client is closed at once: else the server would take it for cancelled."""
    server.script = [*stream_answers("v1"), STREAM_END]
    step.open("a")
    assert step.close() == b"state"
    step.close_client()
    until = time.monotonic() + 10
    while not server.awaited and time.monotonic() < until:
        time.sleep(0.01)
    assert server.awaited == [True]
