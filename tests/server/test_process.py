"""`kinrec serve` as a process: what it prints, how it ends."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from kinrec.engine import BundleError
from kinrec.engine.store import find_bundle
from kinrec.server.config import ServerConfig
from kinrec.server.processes.crew import Crew, WorkerError
from kinrec.server.processes.versions import Versions
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

KINREC = Path(sys.executable).with_name("kinrec")


@pytest.fixture
def serve(bundle_store):
    """Start `kinrec serve` on a free port; return the process and its address once it is ready."""
    processes = []

    def start(*flags):
        command = [KINREC, "serve", bundle_store, "--port", "0", *flags]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("kinrec: serving "), process.stderr.read()
        return process, line.split()[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=10)


def refused(*arguments):
    """Run `kinrec serve` that must refuse; return its one line."""
    done = subprocess.run(
        [KINREC, "serve", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_missing_store_is_refused(tmp_path):
    """A store that is not there is named, in one line."""
    assert str(tmp_path / "nothing") in refused(tmp_path / "nothing")


def test_a_start_that_is_refused_leaves_no_files(tmp_path):
    """Those for the metrics of workers are removed."""
    flags = ("--workers", "2", "--metrics-address", "127.0.0.1:0")
    with subprocess.Popen(
        [KINREC, "serve", tmp_path / "nothing", *flags], stderr=subprocess.PIPE
    ) as process:
        assert process.wait(60) == 2
    assert not list(Path("/dev/shm").glob(f"kinrec-metrics-{process.pid}-*"))  # noqa: S108 - where they are


def test_a_version_that_is_none_is_refused(bundle_store):
    """The flag is named, and the store."""
    told = f"--version 2020: {bundle_store}: has no complete version '2020'"
    assert refused(bundle_store, "--version", "2020") == f"kinrec serve: {told}"


@pytest.mark.parametrize("flag", ["--tokens", "--experiment", "--state-key-file"])
def test_a_file_of_bytes_is_refused(tmp_path, flag):
    """What is no text is told so, without what Python calls it."""
    file = tmp_path / "file"
    file.write_bytes(b"\x9f\x00")
    assert refused(tmp_path, flag, file) == f"kinrec serve: {flag} {file}: is not text"


def test_a_store_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """It is an error of the store, whether the directory can be looked into or not."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(BundleError, match=f"^{tmp_path}: Permission denied$"):
            find_bundle(tmp_path)

    def deny(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", deny)
    with pytest.raises(BundleError, match=r"manifest.json: Permission denied$"):
        Versions(tmp_path).wanted()


def test_a_worker_that_the_system_does_not_start(tmp_path, monkeypatch):
    """The start comes to nothing, and the error says why."""

    def refuse(*_arguments, **_settings):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    crew = Crew(tmp_path, ServerConfig(workers=2))
    with pytest.raises(WorkerError, match="cannot be started: Resource temporarily unavailable"):
        crew.start()


def test_a_port_in_use_is_refused(bundle_store):
    """A port that another process listens on is named, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = refused(bundle_store, "--port", str(port))
        told = f"kinrec serve: --port: cannot listen on 127.0.0.1:{port}: Address already in use"
        assert line == told
        # What listens already is not told of: the reason is all there is to say.
        more = ("--admin-port", "0", "--metrics-address", "127.0.0.1:0", "--workers", "2")
        assert refused(bundle_store, "--port", str(port), *more) == told
    line = refused(bundle_store, "--port", "0", "--host", "no-such-host.invalid", "--insecure")
    assert line.startswith("kinrec serve: --host: cannot listen on no-such-host.invalid:0: ")


@pytest.mark.parametrize(
    "flag",
    [
        ("--port", "70000"),
        ("--concurrency", "0"),
        ("--grace", "-1"),
        ("--drain-wait", "nan"),
        ("--slow-call-ms", "-1"),
    ],
)
def test_a_flag_out_of_range_is_refused(tmp_path, flag):
    """A flag out of range is named, in one line."""
    assert refused(tmp_path, *flag).startswith(f"kinrec serve: {flag[0]}: must be from ")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0: other machines would be served in plain text"),  # noqa: S104 - which is refused
        (("--tls-cert", "a.pem"), "--tls-cert: needs --tls-key"),
        (("--tls-key", "a.key"), "--tls-key: needs --tls-cert"),
        (("--tls-client-ca", "a.pem"), "--tls-client-ca: needs --tls-cert"),
        (("--tls-cert", "a.pem", "--tls-key", "a.key"), "--tls-cert a.pem: No such file"),
        (("--tokens", "nothing.toml"), "--tokens nothing.toml: No such file or directory"),
        (("--port", "5", "--admin-port", "5"), "--admin-port: must be another than port, is 5"),
        (("--max-connections", "0"), "--max-connections: must be from 1"),
        (("--max-watches", "0"), "--max-watches: must be from 1"),
        (("--max-connection-age", "0"), "--max-connection-age: must be from 1"),
    ],
)
def test_what_is_not_safe_is_refused(tmp_path, flags, told):
    """The flag and the reason, in one line, before anything is loaded."""
    assert refused(tmp_path / "nothing", *flags).startswith(f"kinrec serve: {told}")


def test_a_key_of_another_certificate_is_refused(tmp_path, authority):
    """As above, for a pair of files that are both well formed."""
    cert, key = authority.issue("one")[0], authority.issue("other")[1]
    line = refused(tmp_path / "nothing", "--tls-cert", cert, "--tls-key", key)
    assert line == f"kinrec serve: --tls-key {key}: is not the key of {cert}"


def test_tls_and_tokens(serve, tmp_path, authority, stranger):
    """By the flags: both are asked for, renewed certificates taken up, and open connections kept."""
    cert, key = authority.issue("server")
    tokens = tmp_path / "tokens.toml"
    made = subprocess.run(
        [KINREC, "token", "shop", "--out", tmp_path / "shop.token"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    tokens.write_text(made.stdout)
    files = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.root)
    process, address = serve(*files, "--tokens", tokens)
    client_cert, client_key = authority.issue("client")
    token = (tmp_path / "shop.token").read_text().strip()
    ask = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 10}

    own = (client_key.read_bytes(), client_cert.read_bytes())

    def channel(root, pair=own):
        credentials = grpc.ssl_channel_credentials(root.read_bytes(), *pair)
        return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])

    with channel(authority.root) as before, channel(authority.root, ()) as nobody:
        stub = RecommenderServiceStub(before)
        assert stub.GetModel(pb.GetModelRequest(), **ask)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModel(pb.GetModelRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            RecommenderServiceStub(nobody).GetModel(pb.GetModelRequest(), **ask)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

        key.write_text("nothing")  # a renewal that is broken, and then one that is not
        new_cert, new_key = stranger.issue("renewed")
        time.sleep(1.1)
        with channel(authority.root) as still:
            assert RecommenderServiceStub(still).GetModel(pb.GetModelRequest(), **ask)
        cert.write_bytes(new_cert.read_bytes())
        key.write_bytes(new_key.read_bytes())
        time.sleep(1.1)
        with channel(stranger.root) as after:
            assert RecommenderServiceStub(after).GetModel(pb.GetModelRequest(), **ask)
        assert stub.GetModel(pb.GetModelRequest(), **ask)
    process.terminate()
    assert process.wait(15) == 0
    said = process.stderr.read()
    assert f"--tls-key {key}: is not a private key in PEM" in said
    assert "Traceback" not in said
    assert token not in said


def test_watches_are_as_many_as_the_flag_says(serve):
    """One more is refused."""
    _, address = serve("--max-watches", "1", "--workers", "1")
    with grpc.insecure_channel(address) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=10)
        assert next(watch).status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(HealthStub(channel).Watch(HealthCheckRequest(), timeout=10))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watch.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(serve, number):
    """After a signal health is NOT_SERVING while calls are still answered; then it exits with 0."""
    process, address = serve("--drain-wait", "2")
    with grpc.insecure_channel(address) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        assert next(watch).status == HealthCheckResponse.SERVING
        process.send_signal(number)
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        request = pb.RecommendRequest(events=[pb.Event(item_id="i")])
        assert RecommenderServiceStub(channel).Recommend(request, timeout=10).recommendations
        assert process.wait(15) == 0
    assert "Traceback" not in process.stderr.read()


def test_a_second_signal_cuts_the_drain_short(serve):
    """A second signal ends the wait at once, and the exit code is still 0."""
    process, address = serve("--drain-wait", "60")
    with grpc.insecure_channel(address) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        next(watch)
        process.send_signal(signal.SIGTERM)
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_no_call_is_lost_in_a_drain(serve):
    """Callers that heed health while the server drains see no failed call."""
    process, address = serve("--drain-wait", "1")
    draining = threading.Event()
    failures, answers = [], []

    def calls():
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = RecommenderServiceStub(channel)
            while not draining.is_set():
                try:
                    answers.append(stub.GetModel(pb.GetModelRequest(), timeout=10))
                except grpc.RpcError as error:
                    failures.append(error)

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    with grpc.insecure_channel(address) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        next(watch)
        time.sleep(0.2)
        process.terminate()
        next(watch)
        draining.set()
        for thread in threads:
            thread.join(20)
        assert process.wait(15) == 0
    assert answers
    assert not failures
