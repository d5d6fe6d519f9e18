"""Tokens over real calls: who is let through, to what, how often."""

import hmac
import logging
import threading
import tomllib

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from kinrec.cli import main
from kinrec.server.security.auth import TokenBucket, current_principal
from kinrec.server.security.tokens import MAX_TOKENS, digest_of, new_token, read_tokens
from kinrec.server.security.watched import FlagFileError
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

REQUEST = pb.RecommendRequest(user_id="u")
SHOP, NEXT, MAIL = (new_token() for _ in range(3))
ENTRY = '[[tokens]]\nname = "{}"\nsha256 = "{}"\n{}\n'


def entry(name, token, more=""):
    """What the file says of a token."""
    return ENTRY.format(name, digest_of(token), more)


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch):
    """Look at the file at every call."""
    monkeypatch.setattr("kinrec.server.security.watched._LOOK_SECONDS", 0.0)


@pytest.fixture
def file(tmp_path):
    """The file of tokens: the shop may do all, mail may recommend."""
    path = tmp_path / "tokens.toml"
    path.write_text(entry("shop", SHOP) + entry("mail", MAIL, 'rpcs = ["Recommend", "GetModel"]'))
    return path


@pytest.fixture
def channel(engine, start_server, open_channel, file):
    """A channel to a server that asks for tokens."""
    return open_channel(start_server(engine, tokens=file, reflection=True))


@pytest.fixture
def stub(channel):
    """The service of that server."""
    return RecommenderServiceStub(channel)


def with_token(token):
    """The metadata of a call."""
    return (("authorization", f"Bearer {token}"),)


def refusal(call):
    """Make a call that must fail; return its code, its reason and the delay, None if there is none."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    metadata = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (caught.value.code().value[0], caught.value.details())
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = None
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(retry):
            found = retry.retry_delay.ToMicroseconds() / 1e6
    assert info.domain == "kinrec"
    assert not any(token in status.message for token in (SHOP, NEXT, MAIL))
    return caught.value.code(), info.reason, found


MISSING = (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", None)
INVALID = (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", None)
NOT_ALLOWED = (grpc.StatusCode.PERMISSION_DENIED, "RPC_NOT_ALLOWED", None)


@pytest.mark.parametrize(
    ("metadata", "outcome"),
    [
        ((), MISSING),
        ((("x-token", SHOP),), MISSING),
        (with_token(NEXT), INVALID),
        (with_token(SHOP[:-1]), INVALID),
        (with_token(f"{SHOP}x"), INVALID),
        (with_token(digest_of(SHOP)), INVALID),
        (with_token(""), INVALID),
        ((("authorization", SHOP),), INVALID),
        ((("authorization", f"Basic {SHOP}"),), INVALID),
        (with_token(NEXT) + with_token(SHOP), INVALID),
        (with_token(SHOP) + with_token(NEXT), INVALID),
    ],
)
def test_without_a_right_token(engine, channel, stub, metadata, outcome):
    """Every call is refused, known or not, unary or a stream, and the engine is not asked."""
    ask = {"metadata": metadata, "timeout": 10}
    assert refusal(lambda: stub.Recommend(REQUEST, **ask)) == outcome
    assert refusal(lambda: stub.GetModel(pb.GetModelRequest(), **ask)) == outcome
    assert refusal(lambda: stub.BatchRecommend(pb.BatchRecommendRequest(), **ask)) == outcome
    assert refusal(lambda: list(stub.RecommendStream(iter([]), **ask))) == outcome
    assert refusal(lambda: channel.unary_unary("/kinrec.v1.Other/Do")(b"", **ask)) == outcome
    reflect = ServerReflectionStub(channel).ServerReflectionInfo
    requests = iter([ServerReflectionRequest(list_services="")])
    assert refusal(lambda: list(reflect(requests, **ask))) == outcome
    assert not engine.asked


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_a_token(engine, channel, stub, scheme):
    """The right token lets through, to reflection too."""
    ask = {"metadata": (("authorization", f"{scheme} {SHOP}"),), "timeout": 10}
    assert stub.Recommend(REQUEST, **ask).recommendations
    start = pb.RecommendStreamRequest(start=REQUEST)
    assert [part.WhichOneof("part") for part in stub.RecommendStream(iter([start]), **ask)] == [
        "response",
        "end",
    ]
    reflect = ServerReflectionStub(channel).ServerReflectionInfo
    assert list(reflect(iter([ServerReflectionRequest(list_services="")]), **ask))
    assert len(engine.asked) == 2


def test_health_needs_no_token(channel):
    """Who only asks whether the server takes calls is answered."""
    health = HealthStub(channel)
    assert health.Check(HealthCheckRequest(), timeout=10).status == HealthCheckResponse.SERVING
    watch = health.Watch(HealthCheckRequest(), timeout=10)
    assert next(watch).status == HealthCheckResponse.SERVING
    watch.cancel()


def test_what_a_token_may_call(engine, channel, stub):
    """A token with a list of methods may call these, and no others."""
    ask = {"metadata": with_token(MAIL), "timeout": 10}
    assert stub.Recommend(REQUEST, **ask).recommendations
    assert stub.GetModel(pb.GetModelRequest(), **ask)
    asked = len(engine.asked)
    assert refusal(lambda: stub.Rank(pb.RankRequest(item_ids=["i"]), **ask)) == NOT_ALLOWED
    assert refusal(lambda: list(stub.RecommendStream(iter([]), **ask))) == NOT_ALLOWED
    assert refusal(lambda: channel.unary_unary("/kinrec.v1.Other/Do")(b"", **ask)) == NOT_ALLOWED
    reflect = ServerReflectionStub(channel).ServerReflectionInfo
    requests = iter([ServerReflectionRequest(list_services="")])
    assert refusal(lambda: list(reflect(requests, **ask))) == NOT_ALLOWED
    assert len(engine.asked) == asked


def test_a_rate_holds_for_each_token(engine, start_server, open_channel, file):
    """Beyond the burst a call is refused with when to come again; others are not held up by it."""
    file.write_text(entry("shop", SHOP, "rate = 0.01\nburst = 3") + entry("mail", MAIL))
    stub = RecommenderServiceStub(open_channel(start_server(engine, tokens=file)))
    ask = {"metadata": with_token(SHOP), "timeout": 10}
    for _ in range(3):
        stub.Recommend(REQUEST, **ask)
    code, reason, delay = refusal(lambda: stub.Recommend(REQUEST, **ask))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert 90 < delay <= 100
    assert stub.Recommend(REQUEST, metadata=with_token(MAIL), timeout=10).recommendations
    assert len(engine.asked) == 4


def test_the_bucket():
    """A burst at once, then the rate; a rest fills it up to the burst and no further."""
    bucket = TokenBucket(rate=10, burst=2)
    assert [bucket.take(1000.0) for _ in range(2)] == [0, 0]
    assert bucket.take(1000.0) == pytest.approx(0.1)
    assert bucket.take(1000.05) == pytest.approx(0.05)
    assert bucket.take(1000.11) == 0
    assert bucket.take(1000.11) > 0
    assert [bucket.take(2000.0) > 0 for _ in range(3)] == [False, False, True]


def test_refused_calls_take_no_thread_of_the_others(engine, start_server, open_channel, file):
    """While every thread works, a call that is refused is told so at once, its request unsent."""
    engine.gate.clear()
    channel = open_channel(start_server(engine, tokens=file, concurrency=1))
    call = RecommenderServiceStub(channel).Recommend.future(
        REQUEST, metadata=with_token(SHOP), timeout=20
    )
    assert engine.entered.wait(10)
    done = threading.Event()

    def never():
        done.wait(20)
        yield from ()

    unsent = channel.stream_unary("/kinrec.v1.RecommenderService/Recommend")
    assert refusal(lambda: unsent(never(), timeout=5)) == MISSING
    done.set()
    engine.gate.set()
    assert call.result(10).recommendations


def test_tokens_are_replaced_while_serving(stub, file, caplog):
    """Old and new are taken side by side, then the new alone; a broken file changes nothing."""
    model = pb.GetModelRequest()

    def ask(token):
        return stub.GetModel(model, metadata=with_token(token), timeout=10)

    file.write_text(entry("shop", SHOP) + entry("shop-2", NEXT))
    assert ask(SHOP)
    assert ask(NEXT)
    file.write_text(entry("shop-2", NEXT))
    assert refusal(lambda: ask(SHOP)) == INVALID
    assert ask(NEXT)
    with caplog.at_level(logging.WARNING):
        file.write_text("[[tokens]]\nname = 7")
        assert ask(NEXT)
        file.unlink()
        assert ask(NEXT)
        assert ask(NEXT)
    assert ["tokens[0].name: " in one.getMessage() for one in caplog.records] == [True, False]
    assert "No such file" in caplog.records[1].getMessage()


def test_the_digest_is_compared_in_constant_time_with_every_token(file, monkeypatch):
    """The comparison is hmac's, and goes on behind the token that fits."""
    compared = []

    def compare(one, other):
        compared.append(other)
        return compare_digest(one, other)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens = read_tokens(file)
    assert tokens.find(SHOP).name == "shop"
    assert compared == [digest_of(SHOP), digest_of(MAIL)]


def test_the_principal_is_the_name_of_the_token(engine, stub, monkeypatch):
    """The handlers of calls and of streams can tell whose call it is; outside of one nobody's."""
    seen = []
    answer = engine.answer
    monkeypatch.setattr(
        engine, "answer", lambda query: (seen.append(current_principal()), answer(query))[1]
    )
    stub.Recommend(REQUEST, metadata=with_token(MAIL), timeout=10)
    start = pb.RecommendStreamRequest(start=REQUEST)
    list(stub.RecommendStream(iter([start]), metadata=with_token(SHOP), timeout=10))
    assert seen == ["mail", "shop"]
    assert current_principal() == ""


GOOD = f'[[tokens]]\nname = "a"\nsha256 = "{digest_of(SHOP)}"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "tokens: must be from 1 to 100, are 0"),
        ("tokens = 7", "tokens: must be tables, [[tokens]]"),
        ("[[token]]", "token: is no key; there are tokens"),
        ("[[tokens]", "Expected"),
        ("[[tokens]]", "tokens[0].name: must be a string"),
        (f'[[tokens]]\nname = "a"\nsha256 = "{SHOP}"', "tokens[0].sha256: must be 64 hexadecimal"),
        ('[[tokens]]\nname = "a"', "tokens[0].sha256: must be a string"),
        (GOOD.replace('"a"', '"a b"'), "tokens[0].name: must be 1 to 64 of"),
        (GOOD.replace('"a"', "7"), "tokens[0].name: must be a string"),
        (
            f"{GOOD}token = 1",
            "tokens[0].token: is no key; there are name, sha256, rpcs, rate, burst",
        ),
        (f"{GOOD}rpcs = []", "tokens[0].rpcs: must be a list of names of methods"),
        (f'{GOOD}rpcs = ["Forget"]', "tokens[0].rpcs: 'Forget' is no method; there are Batch"),
        (f"{GOOD}rate = 0", "tokens[0].rate: must be from 0.001 to 1,000,000, is 0"),
        (f"{GOOD}rate = nan", "tokens[0].rate: must be from 0.001 to 1,000,000, is nan"),
        (f'{GOOD}rate = "9"', "tokens[0].rate: must be a number"),
        (f"{GOOD}burst = 2", "tokens[0].burst: needs a rate"),
        (f"{GOOD}rate = 1\nburst = 0", "tokens[0].burst: must be from 1 to 1,000,000, is 0"),
        (f"{GOOD}rate = 1\nburst = 1.5", "tokens[0].burst: must be a whole number, is 1.5"),
        (GOOD + GOOD, "tokens[1].name: 'a' is that of tokens[0] too"),
        (GOOD + GOOD.replace('"a"', '"b"'), "tokens[1].sha256: is that of tokens[0] too"),
    ],
)
def test_a_file_that_breaks_a_rule(tmp_path, text, told):
    """The flag, the file, the key and the rule are named in one line, and no token."""
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(FlagFileError) as caught:
        read_tokens(path)
    assert str(caught.value).startswith(f"--tokens {path}: {told}")
    assert "\n" not in str(caught.value)
    assert SHOP not in str(caught.value)


def test_defaults_of_a_rate(tmp_path):
    """The burst is a second's calls, and one at least."""
    path = tmp_path / "tokens.toml"
    path.write_text(entry("a", SHOP, "rate = 2.5") + entry("b", NEXT, "rate = 0.5"))
    tokens = read_tokens(path)
    assert [(t.rate, t.burst) for t in (tokens.find(SHOP), tokens.find(NEXT))] == [
        (2.5, 3),
        (0.5, 1),
    ]
    path.write_text("".join(entry(f"t{n}", f"x{n}") for n in range(MAX_TOKENS + 1)))
    with pytest.raises(FlagFileError, match="are 101"):
        read_tokens(path)


def test_a_token_is_made(tmp_path, capsys):
    """The file has the token for its owner alone, and what is printed is the entry, without it."""
    out = tmp_path / "shop.token"
    assert main(["token", "shop", "--out", str(out)]) == 0
    token, printed = out.read_text().strip(), capsys.readouterr().out
    assert out.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(printed) == {"tokens": [{"name": "shop", "sha256": digest_of(token)}]}
    assert token not in printed
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(printed)
    assert read_tokens(tokens).find(token).name == "shop"

    assert main(["token", "shop", "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"kinrec token: --out {out}: File exists\n"
    assert out.read_text().strip() == token
    assert main(["token", "a b", "--out", str(tmp_path / "other")]) == 2
    assert capsys.readouterr().err.startswith("kinrec token: name: must be 1 to 64")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("before", ["", GOOD, GOOD.rstrip("\n")])
def test_a_token_is_added_to_the_file(tmp_path, capsys, before):
    """Behind what is there, if the whole keeps the rules: a name that is taken leaves all as it is."""
    tokens, out, other = tmp_path / "tokens.toml", tmp_path / "shop.token", tmp_path / "other.token"
    if before:
        tokens.write_text(before)
    assert main(["token", "shop", "--out", str(out), "--tokens", str(tokens)]) == 0
    told = f"wrote the token to {out}, and shop's entry to {tokens}\n"
    assert capsys.readouterr().out == told
    assert read_tokens(tokens).find(out.read_text().strip()).name == "shop"
    assert (read_tokens(tokens).find(SHOP) is not None) == bool(before)

    text = tokens.read_text()
    assert main(["token", "shop", "--out", str(other), "--tokens", str(tokens)]) == 2
    place = int(bool(before))
    told = f"tokens[{place + 1}].name: 'shop' is that of tokens[{place}] too"
    assert capsys.readouterr().err == f"kinrec token: --tokens {tokens}: {told}\n"
    assert tokens.read_text() == text
    assert not other.exists()


def test_a_file_that_cannot_take_a_token(tmp_path, capsys):
    """It is named, and there is no token that no server takes."""
    out, tokens = tmp_path / "shop.token", tmp_path / "nothing" / "tokens.toml"
    assert main(["token", "shop", "--out", str(out), "--tokens", str(tokens)]) == 2
    assert capsys.readouterr().err.startswith(f"kinrec token: --tokens {tokens}: No such file")
    assert not out.exists()
