"""TLS over real connections: who is let in, who is not, and certificates that are renewed."""

import logging
import os
import subprocess
import sys

import grpc
import pytest

from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.server.port import PortError
from kinrec.server.security.tls import TlsFiles, check_exposure
from kinrec.server.security.watched import FlagFileError
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

REQUEST = pb.RecommendRequest(user_id="u")


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch):
    """Look at the files at every connection."""
    monkeypatch.setattr("kinrec.server.security.watched._LOOK_SECONDS", 0.0)


@pytest.fixture
def serve(engine, start_server):
    """Start a server of `engine` with these files."""
    return lambda *files: start_server(engine, tls=TlsFiles(*files))


@pytest.fixture
def connect():
    """Open a connection of its own over TLS, in plain text without a root; all are closed at the end."""
    channels = []

    def open_channel(server, root=None, client=None):
        options = [("grpc.use_local_subchannel_pool", 1)]
        if root is None:
            channels.append(grpc.insecure_channel(server.address, options))
            return RecommenderServiceStub(channels[-1])
        cert, key = client or (None, None)
        credentials = grpc.ssl_channel_credentials(
            root.read_bytes(), key and key.read_bytes(), cert and cert.read_bytes()
        )
        channels.append(grpc.secure_channel(server.address, credentials, options))
        return RecommenderServiceStub(channels[-1])

    yield open_channel
    for channel in channels:
        channel.close()


def is_refused(stub):
    """Whether a call does not come through for want of a connection."""
    try:
        stub.Recommend(REQUEST, timeout=10)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return True
        raise
    return False


def test_tls(engine, serve, connect, authority, stranger):
    """Who trusts the certificate is served; who does not, or speaks plain text, is not."""
    server = serve(*authority.issue("server"))
    assert connect(server, authority.root).Recommend(REQUEST, timeout=10).recommendations
    assert is_refused(connect(server, stranger.root))
    assert is_refused(connect(server))
    assert len(engine.asked) == 1


def test_mutual_tls(engine, serve, connect, authority, stranger):
    """Clients need a certificate that the roots lead to and that has not expired."""
    clients = stranger  # another authority than the server's
    server = serve(*authority.issue("server"), clients.root)
    served = connect(server, authority.root, clients.issue("client"))
    assert served.Recommend(REQUEST, timeout=10).recommendations
    assert is_refused(connect(server, authority.root))
    assert is_refused(connect(server, authority.root, authority.issue("foreign")))
    assert is_refused(connect(server, authority.root, clients.issue("expired", days=-1)))
    assert len(engine.asked) == 1


def test_a_renewed_certificate_is_taken_up(serve, connect, authority, stranger, caplog):
    """New connections get the new one, open ones go on, and a broken renewal changes nothing."""
    cert, key = authority.issue("server")
    server = serve(cert, key)
    before = connect(server, authority.root)
    stream = before.RecommendStream(iter([pb.RecommendStreamRequest(start=REQUEST)]), timeout=20)
    assert next(stream).HasField("response")
    new_cert, new_key = stranger.issue("renewed")

    with caplog.at_level(logging.INFO, "kinrec.server.security.watched"):
        os.replace(new_cert, cert)  # noqa: PTH105 - half of a renewal
        assert not is_refused(connect(server, authority.root))
        assert not is_refused(connect(server, authority.root))
        (record,) = caplog.records
        assert f"{key}: is not the key of {cert}" in record.getMessage()

        os.replace(new_key, key)  # noqa: PTH105
        assert not is_refused(connect(server, stranger.root))
        assert is_refused(connect(server, authority.root))
        assert "is in use" in caplog.records[-1].getMessage()

    cert.write_text("nothing")
    assert not is_refused(connect(server, stranger.root))
    cert.unlink()
    assert not is_refused(connect(server, stranger.root))
    assert next(stream).HasField("end")
    assert before.Recommend(REQUEST, timeout=10).recommendations


def test_renewed_roots_of_clients(serve, connect, authority, stranger):
    """A client whose authority is trusted no more gets no new connection."""
    client = authority.issue("client")
    root = stranger.root.with_name("copy.pem")
    root.write_bytes(authority.root.read_bytes())
    server = serve(*authority.issue("server"), authority.root)
    assert not is_refused(connect(server, root, client))
    authority.root.write_bytes(stranger.root.read_bytes())
    assert is_refused(connect(server, root, client))
    assert not is_refused(connect(server, root, stranger.issue("client")))


ENCRYPTED = (
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBDfAgUfmGDk3yH1Tl4J\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n"
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda files: files.cert.unlink(), "--tls-cert {cert}: No such file or directory"),
        (lambda files: files.key.unlink(), "--tls-key {key}: No such file or directory"),
        (
            lambda files: files.cert.write_text("x"),
            "--tls-cert {cert}: holds no certificate in PEM",
        ),
        (lambda files: files.cert.write_bytes(b"\xff"), "--tls-cert {cert}: holds no certificate"),
        (lambda files: files.key.write_text("x"), "--tls-key {key}: is not a private key in PEM"),
        (lambda files: files.key.write_text(ENCRYPTED), "--tls-key {key}: "),
        (lambda files: files.client_ca.write_text("x"), "--tls-client-ca {client_ca}: holds no"),
    ],
)
def test_files_that_cannot_be_used(authority, change, told):
    """The flag, the file and the reason are named, in one line."""
    files = TlsFiles(*authority.issue("server"), authority.root)
    files.read()
    change(files)
    with pytest.raises(FlagFileError) as caught:
        files.read()
    names = {"cert": files.cert, "key": files.key, "client_ca": files.client_ca}
    assert str(caught.value).startswith(told.format(**names))
    assert "\n" not in str(caught.value)


def test_a_key_of_another_kind_is_that_of_another_certificate(authority):
    """Who moves from one kind to another and has replaced one of the two files is told so."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of this test alone
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    cert, key = authority.issue("server")
    other = rsa.generate_private_key(65_537, 2_048)
    key.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(FlagFileError, match=f"--tls-key {key}: is not the key of {cert}"):
        TlsFiles(cert, key).read()


def test_an_encrypted_key_is_refused_without_asking(authority):
    """Nobody is asked for a passphrase on the terminal of a server."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - of this test alone

    cert, key = authority.issue("server")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(FlagFileError, match="is encrypted; give a key without a passphrase"):
        TlsFiles(cert, key).read()


def test_the_key_of_another_certificate(authority):
    """A pair that does not belong together is refused by name."""
    files = TlsFiles(authority.issue("one")[0], authority.issue("other")[1])
    with pytest.raises(
        FlagFileError, match=f"--tls-key {files.key}: is not the key of {files.cert}"
    ):
        files.read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - which is refused
def test_plain_text_to_other_machines_is_refused(engine, host, authority):
    """A server in plain text listens on this machine alone, unless it is told to."""
    with pytest.raises(PortError, match=f"^--host {host}: .* --tls-cert .* --insecure"):
        RecommenderServer(Engines(engine), ServerConfig(host=host, port=0))
    check_exposure(ServerConfig(host=host, insecure=True))
    check_exposure(ServerConfig(host=host, tls=TlsFiles(*authority.issue("server"))))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost"])
def test_plain_text_to_this_machine(engine, host):
    """Names and addresses of the loopback need nothing."""
    RecommenderServer(Engines(engine), ServerConfig(host=host, port=0))


def test_the_checks_need_no_grpc(authority, tmp_path):
    """A process that serves nothing itself can make them, and hand the configuration on."""
    cert, key = authority.issue("server")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "shop"\nsha256 = "{"0" * 64}"\n')
    code = (
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "from kinrec.server.config import ServerConfig\n"
        "from kinrec.server.security.tls import TlsFiles, check_exposure\n"
        "from kinrec.server.security.tokens import read_tokens\n"
        "cert, key, tokens = map(Path, sys.argv[1:])\n"
        "files = TlsFiles(cert, key, cert)\n"
        "files.read(), read_tokens(tokens)\n"
        "config = ServerConfig(host='0.0.0.0', tls=files, tokens=tokens)\n"
        "check_exposure(config)\n"
        "again = pickle.loads(pickle.dumps(config))\n"
        "assert (again.tls, again.tokens) == (files, tokens)\n"
        "print('grpc' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, cert, key, tokens],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("False\n", "")
