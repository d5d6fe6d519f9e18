"""TLS and tokens: what a client sends to whom, by both clients and from the command line."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from kinrec.client import (
    AsyncClient,
    Client,
    Event,
    InvalidRequestError,
    KinrecError,
    PermissionDeniedError,
    RateLimitError,
    UnauthenticatedError,
    UnavailableError,
    tls_credentials,
)
from kinrec.client._channel import ChannelConfig
from kinrec.client._token import is_this_machine
from kinrec.v1 import recommender_pb2 as pb

from .conftest import STREAM_END, Refusal, ScriptedServer, failed, rich_details, stream_answers

TOKEN = "kinrec_abc-DEF_123"  # noqa: S105 - of no server
MODEL = pb.GetModelResponse(name="shop")


class NotingServer(ScriptedServer):
    """A scripted server that notes the metadata of calls too."""

    def __init__(self):
        super().__init__()
        self.tokens = []
        self.script = [MODEL]

    def service(self, details):
        """As the scripted one."""
        metadata = dict(details.invocation_metadata)
        self.tokens.append(metadata.get("authorization"))
        return super().service(details)


@pytest.fixture
def start():
    """Start servers that note; they are stopped at the end."""
    servers = []

    def start(pair=None, clients=None):
        noting = NotingServer()
        server = grpc.server(ThreadPoolExecutor(4), handlers=[noting])
        servers.append(server)
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            cert, key = pair
            credentials = grpc.ssl_server_credentials(
                [(key.read_bytes(), cert.read_bytes())],
                clients and clients.read_bytes(),
                require_client_auth=clients is not None,
            )
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        noting.address = f"127.0.0.1:{port}"
        return noting

    yield start
    for server in servers:
        assert server.stop(0).wait(10)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """Ask for the model, and by a stream, with a new client: `ask(target, token=...)`."""

    def ask_sync(target, how, **settings):
        with Client(target, **settings) as client:
            return how(client)

    def ask_async(target, how, **settings):
        async def once():
            async with AsyncClient(target, **settings) as client:
                return await how(client)

        return asyncio.run(once())

    return ask_sync if request.param == "sync" else ask_async


def get_model(client):
    """A call."""
    return client.get_model(timeout=10)


def follow(client):
    """A stream."""
    if isinstance(client, AsyncClient):
        return _follow(client)
    with client.recommend_stream([Event("i")], timeout=10) as stream:
        return stream.send([Event("j")]).model_version


async def _follow(client):
    async with client.recommend_stream([Event("i")], timeout=10) as stream:
        return (await stream.send([Event("j")])).model_version


def health(client):
    """A call of another service."""
    return client.health(timeout=10)


def test_the_token_goes_with_every_call(start, ask):
    """With calls, streams and health; without one nothing goes."""
    server = start()
    ask(server.address, get_model, token=TOKEN)
    server.script = [*stream_answers("v1", "v2"), STREAM_END]
    assert ask(server.address, follow, token=TOKEN) == "v2"
    server.script = [b"\x08\x01"]
    ask(server.address, health, token=TOKEN)
    server.script = [MODEL]
    ask(server.address, get_model)
    assert server.tokens == [*[f"Bearer {TOKEN}"] * 3, None]


def test_a_token_over_tls(start, ask, authority):
    """To a server that shows a certificate of the roots that are given."""
    server = start(authority.issue("server"))
    credentials = tls_credentials(ca=authority.root)
    assert ask(server.address, get_model, token=TOKEN, credentials=credentials).name == "shop"
    assert server.tokens == [f"Bearer {TOKEN}"]


def test_a_certificate_of_the_client(start, ask, authority, stranger):
    """A server that asks for one gets the one that is given."""
    server = start(authority.issue("server"), authority.root)
    cert, key = authority.issue("client")
    own = tls_credentials(ca=authority.root, cert=cert, key=key)
    assert ask(server.address, get_model, credentials=own).name == "shop"
    cert, key = stranger.issue("client")
    foreign = tls_credentials(ca=authority.root, cert=cert, key=key)
    for credentials in (tls_credentials(ca=authority.root), foreign):
        with pytest.raises(
            UnavailableError, match="closed the connection, as a server does that takes only TLS"
        ):
            ask(server.address, get_model, credentials=credentials)
    assert len(server.tokens) == 1


def test_why_a_server_is_not_believed(start, ask, authority, stranger):
    """The error says what is wrong with the certificate, and the token is not sent."""
    server, expired = start(authority.issue("server")), start(authority.issue("old", days=-1))
    ours, theirs = tls_credentials(ca=authority.root), tls_credentials(ca=stranger.root)
    for target, credentials, why in (
        (server.address, theirs, "its certificate is of an authority that is not trusted"),
        (server.address, tls_credentials(), "its certificate is of an authority that is not"),
        (expired.address, ours, "its certificate has expired"),
        (start().address, ours, "it does not speak TLS"),
    ):
        with pytest.raises(UnavailableError, match=f"^no server .* {target}: {why}"):
            ask(target, get_model, credentials=credentials, token=TOKEN)
    other_name = [("grpc.ssl_target_name_override", "shop.example")]
    with pytest.raises(UnavailableError, match="its certificate is for another name"):
        ask(server.address, get_model, credentials=ours, channel_options=other_name, token=TOKEN)
    assert server.tokens == expired.tokens == []


@pytest.mark.parametrize(
    "target",
    ["shop.example:50051", "10.0.0.7:50051", "0.0.0.0:50051", "dns:///shop.example:50051"],
)
def test_a_token_is_not_sent_in_the_clear(ask, target):
    """Not to another machine, unless that is asked for; nothing is sent before it is refused."""
    with pytest.raises(
        InvalidRequestError, match=r"^token: is not sent in the clear to "
    ) as caught:
        ask(target, get_model, token=TOKEN)
    assert TOKEN not in str(caught.value)
    ChannelConfig(target, token=TOKEN, insecure=True)
    ChannelConfig(target, token=TOKEN, credentials=tls_credentials())


@pytest.mark.parametrize(
    ("target", "is_local"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("dns:localhost:1", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv6:[::1]:1", True),
        ("unix:/run/kinrec", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("ipv6:[::]:1", False),
        ("localhost.example:1", False),
        ("xds:///localhost:1", False),
        ("dns://10.0.0.1/shop:1", False),
        ("127.0.0.1.example:1", False),
        ("128.0.0.1:1", False),
    ],
)
def test_which_targets_are_this_machine(target, is_local):
    """Loopback addresses, localhost and sockets; nothing that has to be looked up."""
    assert is_this_machine(target) is is_local


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "grün", "a\0", b"abc", 7])
def test_what_is_no_token(ask, token):
    """What no metadata can hold is refused, and not told."""
    with pytest.raises(InvalidRequestError, match=r"^token: must be visible ASCII") as caught:
        ask("localhost:1", get_model, token=token)
    assert not token or str(token) not in str(caught.value)


def test_a_token_is_not_shown():
    """The configuration of a client can be printed."""
    assert TOKEN not in repr(ChannelConfig("localhost:1", token=TOKEN))


def retry_details(reason, seconds, nanos=0):
    """The details of a status that says when to come again."""
    status, retry = Status(), RetryInfo()
    retry.retry_delay.seconds, retry.retry_delay.nanos = seconds, nanos
    for message in (ErrorInfo(reason=reason, domain="kinrec"), retry):
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return status.SerializeToString()


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"), UnauthenticatedError),
        ((grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID"), UnauthenticatedError),
        ((grpc.StatusCode.UNAUTHENTICATED, ""), UnauthenticatedError),
        ((grpc.StatusCode.PERMISSION_DENIED, "RPC_NOT_ALLOWED"), PermissionDeniedError),
        ((grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"), RateLimitError),
    ],
)
@pytest.mark.parametrize("how", [get_model, follow])
def test_what_a_refusal_becomes(start, ask, refusal, kind, how):
    """Of calls and of streams; none is repeated."""
    server, (code, reason) = start(), refusal
    server.script = [Refusal(code, "as told", rich_details(reason))]
    with pytest.raises(KinrecError, match="as told") as caught:
        ask(server.address, how, token=TOKEN)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.retry_delay is None
    assert len(server.tokens) == 1


def test_when_to_come_again(start, ask):
    """The seconds that the server says are on the error."""
    server = start()
    details = retry_details("RATE_LIMITED", 2, 500_000_000)
    server.script = [Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "as told", details)]
    with pytest.raises(RateLimitError) as caught:
        ask(server.address, get_model)
    assert caught.value.retry_delay == 2.5


def test_files_that_cannot_be_used(authority):
    """The field and the reason, for each of the files."""
    cert, key = authority.issue("client")
    other = authority.issue("other")[1]
    empty = cert.with_name("empty")
    empty.write_text("")
    missing = cert.with_name("missing")
    for files, told in (
        ({"ca": missing}, f"ca: {missing}: No such file or directory"),
        ({"ca": empty}, f"ca: {empty} holds no certificate in PEM"),
        ({"cert": cert}, "key: must be given with the other of cert and key"),
        ({"key": key}, "cert: must be given with the other of cert and key"),
        ({"cert": empty, "key": key}, f"cert: {empty} holds no certificate in PEM"),
        ({"cert": cert, "key": empty}, f"key: {empty} is not a private key in PEM"),
        ({"cert": cert, "key": other}, f"key: {other} is not the key of {cert}"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            tls_credentials(**files)
        assert str(caught.value) == told


def test_the_command_line(start, call, tmp_path, authority):
    """TLS, the client's certificate and the token by flags; the token by the environment."""
    server = start(authority.issue("server"), authority.root)
    cert, key = authority.issue("client")
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    tls = ("--tls-ca", authority.root, "--tls-cert", cert, "--tls-key", key)
    done = call("model", *tls, "--token-file", token, target=server.address)
    assert done.returncode == 0, done.stderr
    done = call("model", *tls, target=server.address, KINREC_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    server.script = [*stream_answers("v1"), STREAM_END]
    done = call("stream", "--user", "u", *tls, "--token-file", token, target=server.address)
    assert done.returncode == 0, done.stderr
    assert server.tokens == [f"Bearer {TOKEN}"] * 3
    line = failed(call("model", "--tls", target=server.address), 1)
    assert line.startswith("kinrec call model: no server could be reached at 127.0.0.1:")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--token-file", "nothing"), "--token-file nothing: No such file or directory"),
        (("--tls-ca", "nothing"), "--tls-ca: nothing: No such file or directory"),
        (("--tls-cert", "nothing"), "--tls-cert: needs --tls-key"),
        (("--tls-key", "nothing"), "--tls-key: needs --tls-cert"),
        (
            ("--target", "shop.example:1"),
            "KINREC_TOKEN: is not sent in the clear to shop.example:1; give --tls or --tls-ca, or --insecure",
        ),
        (
            ("--target", "localhost:1", "--token-file", os.devnull),
            f"--token-file {os.devnull}: must be visible ASCII",
        ),
        (("--target", "shop"), "--target: must be a host and port"),
        (("--timeout", "0"), "--timeout: must be a positive number of seconds"),
    ],
)
def test_flags_that_cannot_be_used(flags, told, capsys, monkeypatch):
    """One line that names the flag, and the exit code is 2."""
    from kinrec.cli import main  # noqa: PLC0415 - as the process does

    monkeypatch.setenv("KINREC_TOKEN", TOKEN)
    assert main(["call", "model", *flags]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"kinrec call model: {told}")
    assert said.err.count("\n") == 1
    assert TOKEN not in said.err


def test_a_rate_from_the_command_line(start, call):
    """With --json the line of the error has the seconds."""
    server = start()
    details = retry_details("RATE_LIMITED", 2)
    server.script = [Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "as told", details)]
    error = json.loads(failed(call("model", "--json", target=server.address), 1))["error"]
    assert (error["reason"], error["retry_delay"]) == ("RATE_LIMITED", 2)


def test_a_missing_token_from_the_command_line(start, call):
    """What is told is what to type, not what the metadata hold."""
    server = start()
    details = rich_details("TOKEN_MISSING")
    text = "the call carries no token; send 'authorization: Bearer …'"
    server.script = [Refusal(grpc.StatusCode.UNAUTHENTICATED, text, details)]
    line = failed(call("model", target=server.address), 1)
    told = "the call carries no token; give --token-file or KINREC_TOKEN"
    assert line == f"kinrec call model: {told}"
