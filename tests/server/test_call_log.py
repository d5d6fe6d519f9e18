"""Which calls are logged, what is said of them, and how."""

import json
import logging
import re

import grpc
import pytest

from kinrec.engine import UnknownUserError
from kinrec.server.observability import logs
from kinrec.server.observability.call_log import LINES_PER_SECOND
from kinrec.server.observability.observing import Observing, split_address
from kinrec.server.security.tokens import digest_of, new_token
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def log(capsys):
    """Set up the log of a server; return how to read the lines written to standard error so far."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    said = []

    def lines():
        said.extend(capsys.readouterr().err.splitlines())
        return said

    def start(observing):
        logs.configure(observing)
        return lines

    yield start
    root.handlers = before
    root.setLevel(level)


@pytest.fixture
def serve(engine, start_server, open_channel, log):
    """Start a server with such a log; return how to call it and its lines."""

    def start(tokens=None, **settings):
        observing = Observing(log_format="json", **settings)
        lines = log(observing)

        def objects():
            return [json.loads(line) for line in lines()]

        channel = open_channel(start_server(engine, observing=observing, tokens=tokens))
        return RecommenderServiceStub(channel), objects

    return start


def recommend(stub, **metadata):
    """Ask for a person; return the trailing metadata, also of a failure."""
    sent = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    request = pb.RecommendRequest(user_id="u-secret", events=[pb.Event(item_id="i-secret")])
    try:
        _, call = stub.Recommend.with_call(request, metadata=sent, timeout=10)
    except grpc.RpcError as error:
        call = error
    return dict(call.trailing_metadata())


def test_calls_that_go_well_are_not_logged(serve):
    """By default nothing is said of them, and they bring no id."""
    stub, lines = serve()
    assert recommend(stub) == {}
    assert lines() == []


def test_every_call_on_demand(serve):
    """With log_calls each is logged under the id that its caller gave, and nothing of whom."""
    stub, lines = serve(log_calls=True)
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    assert (
        recommend(stub, x_request_id="order-17", traceparent=parent)["x-request-id"] == "order-17"
    )
    (line,) = lines()
    assert line.pop("duration_ms") > 0
    del line["timestamp"]
    assert line == {
        "level": "info",
        "logger": "kinrec.server.observability.call_log",
        "event": "call",
        "request_id": "order-17",
        "trace_id": TRACE,
        "method": "Recommend",
        "model_version": "v1",
        "code": "OK",
    }


def test_personal_data_on_demand(serve):
    """With log_personal_data the log says whom a call was about."""
    stub, lines = serve(log_calls=True, log_personal_data=True)
    recommend(stub)
    (line,) = lines()
    assert (line["user_id"], line["item_ids"]) == ("u-secret", ["i-secret"])


@pytest.mark.parametrize("theirs", ["", "two words", "a@b.example", "x" * 129, 'quote"d'])
def test_an_id_that_cannot_be_used_is_replaced(serve, theirs):
    """What could forge a line, is too long or is an address is not taken over."""
    stub, lines = serve(log_calls=True)
    made = recommend(stub, x_request_id=theirs)["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert [line["request_id"] for line in lines()] == [made]


def test_failures_are_logged(serve, engine):
    """With their code and reason, under the id that the caller gets."""
    engine.failure = UnknownUserError()
    stub, lines = serve()
    made = recommend(stub)["x-request-id"]
    (line,) = lines()
    assert (line["code"], line["reason"], line["level"]) == ("NOT_FOUND", "UNKNOWN_USER", "info")
    assert line["request_id"] == made


def test_floods_are_cut(serve, engine):
    """Of many failures a few a second are logged, and later how many were not."""
    engine.failure = UnknownUserError()
    stub, lines = serve()
    for _ in range(5 * LINES_PER_SECOND):
        recommend(stub)
    said = lines()
    assert LINES_PER_SECOND <= len(said) < 5 * LINES_PER_SECOND
    assert len(said) == LINES_PER_SECOND or any("left_out" in line for line in said)


@pytest.mark.parametrize("personal", [False, True])
def test_an_unexpected_error(serve, engine, personal):
    """It is logged once, with where it came from; with its text, which may tell of a person, if told to."""
    engine.failure = KeyError("u-secret")
    stub, lines = serve(log_personal_data=personal)
    made = recommend(stub, x_request_id="ticket-1")["x-request-id"]
    (line,) = lines()
    assert (line["level"], line["request_id"], made) == ("error", "ticket-1", "ticket-1")
    assert line["event"] == "request ticket-1 failed"
    assert "KeyError" in line["exception"]
    assert "in _ask" in line["exception"]
    assert ("u-secret" in json.dumps(line)) == personal


def test_slow_calls_are_logged(serve):
    """What takes longer is logged with the times of its stages; what does not is not."""
    stub, lines = serve(slow_call=0.0)
    assert recommend(stub)["x-request-id"]
    (line,) = lines()
    assert (line["event"], line["level"]) == ("slow call", "warning")
    assert set(line["stages_ms"]) >= {"queue", "receive", "decode"}
    stub, lines = serve(slow_call=60.0)
    recommend(stub)
    assert lines() == [line]


def test_who_calls_is_logged(serve, tmp_path):
    """A call without a token is logged as refused, and one with a token under the token's name."""
    token, file = new_token(), tmp_path / "tokens.toml"
    file.write_text(f'[[tokens]]\nname = "web-shop"\nsha256 = "{digest_of(token)}"\n')
    stub, lines = serve(log_calls=True, tokens=file)
    recommend(stub)
    recommend(stub, authorization=f"Bearer {token}")
    refused, answered = lines()
    assert (refused["code"], refused["reason"]) == ("UNAUTHENTICATED", "TOKEN_MISSING")
    assert (refused["method"], answered["caller"]) == ("Recommend", "web-shop")
    assert token not in json.dumps([refused, answered])


def test_who_is_refused_is_logged(serve, tmp_path):
    """Under the caller, and under the id that the caller gets: what is their doing is no warning."""
    token, file = new_token(), tmp_path / "tokens.toml"
    entry = f'[[tokens]]\nname = "web-shop"\nsha256 = "{digest_of(token)}"\n'
    file.write_text(f'{entry}rpcs = ["Recommend"]\nrate = 0.001')
    stub, lines = serve(tokens=file)
    own = (("authorization", f"Bearer {token}"),)
    recommend(stub, authorization=own[0][1])
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    recommend(stub, authorization=own[0][1], x_request_id="order-17", traceparent=parent)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetModel(pb.GetModelRequest(), metadata=own, timeout=10)
    made = recommend(stub, x_request_id="two words")["x-request-id"]
    limited, not_allowed, unknown = lines()
    del limited["timestamp"], limited["logger"]
    assert limited == {
        "level": "info",
        "event": "call",
        "request_id": "order-17",
        "trace_id": TRACE,
        "caller": "web-shop",
        "method": "Recommend",
        "code": "RESOURCE_EXHAUSTED",
        "reason": "RATE_LIMITED",
    }
    assert (not_allowed["caller"], not_allowed["reason"]) == ("web-shop", "RPC_NOT_ALLOWED")
    assert not_allowed["request_id"] == dict(caught.value.trailing_metadata())["x-request-id"]
    assert (unknown["request_id"], unknown["reason"]) == (made, "TOKEN_MISSING")
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert "caller" not in unknown


def test_text(log):
    """As text a line has time, level, name and message, and then the rest."""
    lines = log(Observing())
    logging.getLogger("kinrec.x").warning("hello %s", "you", extra={"method": "Rank"})
    logging.getLogger("kinrec.x").debug("nothing")
    (line,) = lines()
    assert re.fullmatch(r"\S+Z WARNING kinrec.x: hello you method=Rank", line)


def test_other_errors_are_logged_whole(log):
    """Where no call was answered the text of an error is of use and of nobody."""
    lines = log(Observing(log_format="json"))
    logging.getLogger("kinrec.x").error("cannot be loaded", exc_info=ValueError("no such file"))
    (line,) = lines()
    assert json.loads(line)["exception"].endswith("ValueError: no such file")


@pytest.mark.parametrize(
    "settings",
    [{"log_format": "xml"}, {"log_level": "loud"}, {"slow_call": -1.0}, {"metrics_address": "x"}],
)
def test_settings_out_of_range_are_refused(settings):
    """The field is named."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        Observing(**settings)


def test_addresses():
    """Names, IPv4 and IPv6 addresses have a port behind the last colon."""
    assert split_address("localhost:9100") == ("localhost", 9100)
    assert split_address("[::1]:0") == ("::1", 0)
