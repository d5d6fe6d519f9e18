"""The container image: what is in it, what it runs as, and that it serves and drains. `make image-test`."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from kinrec.client import Client, Event, Health, UnavailableError

from .conftest import bounded, running, say

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]

KEY = "0123456789abcdef" * 4
TIMEOUT = 20  # seconds for a call


def files(image):
    """All files and folders of the image, as paths in it."""
    return [str(path.relative_to(image.root)) for path in image.root.rglob("*")]


def test_it_is_small(image):
    """The image, base and all, has less than 350 MB."""
    found = {}
    for path in (image.root, *image.root.rglob("*")):
        status = path.lstat()
        found[status.st_ino] = (path.is_relative_to(image.root / "opt/kinrec"), status.st_size)
    size = sum(size for _, size in found.values()) / 1e6
    own = sum(size for is_own, size in found.values() if is_own) / 1e6
    say(f"the image has {size:.0f} MB, {own:.0f} of them kinrec with its libraries")
    assert size < 350


def test_nothing_is_in_it_that_does_not_serve(image):
    """No torch, compiler, test code or cache, and nothing of the build or of the machine that built."""
    unwanted = re.compile(
        r"(.*/)?(torch|polars|onnx|pytest|hypothesis)(-[^/]*)?$"
        r"|(.*/)?(bin/([^/]*-)?(cc|gcc|c\+\+|g\+\+|clang|as|ld)(-[0-9.]+)?|cc1|cc1plus)$"
        # The names that OpenTelemetry has for tests of others are no tests.
        r"|opt/(?!.*/semconv/).*/(tests|conftest\.py|test_[^/]*\.py)$"
        r"|(.*/)?(\.cache|pip\.conf|pip-cert\.pem)$"
        r"|build(/.*)?$"
    )
    assert [path for path in files(image) if unwanted.match(path)] == []


def test_annoy_runs_on_older_cpus(image):
    """No instruction of annoy needs a CPU newer than x86-64-v2: none names a register of AVX."""
    (library,) = image.root.glob("opt/kinrec/lib/python3*/site-packages/annoy/annoylib*.so")
    assembly = bounded(120, "objdump", "--disassemble", library)
    if "x86-64" in assembly:
        assert "%xmm" in assembly
        assert set(re.findall(r"%[yz]mm\d+", assembly)) == set()


def test_it_says_what_it_runs(image):
    """It runs the server itself, without a shell that would keep signals, as a user that is not root."""
    assert image.command[:3] == ["kinrec", "serve", "/models"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.config["User"])
    assert image.config["Healthcheck"]["Test"][:4] == ["CMD", "kinrec", "call", "health"]
    assert list(image.config["ExposedPorts"]) == ["50051/tcp"]


def test_it_answers(image, bundle_store):
    """It answers the three questions, and another with the same key goes on from its states."""
    flags = ("--host=127.0.0.1", "--port=0")
    with (
        running(image, bundle_store, *flags, KINREC_STATE_KEY=KEY) as one,
        Client(one.address, timeout=TIMEOUT) as client,
    ):
        assert client.health() is Health.SERVING
        assert len(client.encode_sequence([Event("i7", "view")]).vector) == 32
        assert len(client.similar_users(user_id="u1", limit=5).similar_users) == 5
        answer = client.recommend([Event("i7", "view"), Event("i9", "buy")], limit=5)
        assert len(answer.recommendations) == 5
    with (
        running(image, bundle_store, *flags, KINREC_STATE_KEY=KEY) as another,
        Client(another.address, timeout=TIMEOUT) as client,
    ):
        again = client.recommend(state=answer.state, limit=5)
        assert again.recommendations == answer.recommendations


def test_it_runs_without_rights(image, bundle_store):
    """The server is the first process, its user is not root, and it can write nowhere."""
    with running(image, bundle_store, "--host=127.0.0.1", "--port=0") as container:
        process = Path("/proc") / str(container.pid)
        lines = (process / "status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        assert status["NSpid"].split()[-1] == "1"
        assert (process / "exe").readlink().name.startswith("python")
        assert set(status["Uid"].split()) == {image.config["User"].split(":")[0]}
        assert int(status["CapEff"], 16) == 0
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        options = {fields[4]: fields[5].split(",") for fields in mounts}
        assert "ro" in options["/"]
        assert "ro" in options["/models"]


def test_the_health_check(image, bundle_store):
    """With nothing added the server is where the health check looks, and the check fails with it."""
    check = image.config["Healthcheck"]["Test"][1:]
    with running(image, bundle_store, own_network=True) as container:
        done = container.execute(*check)
        assert (done.returncode, done.stderr) == (0, "")
        assert container.execute(*check[:-1], "127.0.0.1:1").returncode == 1


def test_sigterm_drains(image, bundle_store):
    """After SIGTERM calls are answered while balancers hear of it; then it ends with exit code 0."""
    more = ("--host=127.0.0.1", "--port=0", "--drain-wait=3")
    with (
        running(image, bundle_store, *more) as container,
        Client(container.address, timeout=TIMEOUT) as client,
        client.recommend_stream(user_id="u1", limit=5) as stream,
    ):
        os.kill(container.pid, signal.SIGTERM)
        deadline = time.monotonic() + 3
        while client.health() is Health.SERVING:
            assert time.monotonic() < deadline
        assert client.recommend(user_id="u1").recommendations
        assert stream.send([Event("i7", "view")]).recommendations
        stream.close()
        _, errors = container.process.communicate(timeout=30)
        assert container.process.returncode == 0
        assert "Traceback" not in errors
        with pytest.raises(UnavailableError):
            client.recommend(user_id="u1", timeout=2)
