"""`kinrec serve` while the versions in its store come and go."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from kinrec.engine.store import list_versions, write_pin
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

from .serving import (
    ASKED,
    FIRST,
    KINREC,
    SECOND,
    calling,
    make_version,
    version_of,
    wait_until,
    workers_of,
)


class Caller:
    """Calls one by one and notes whatever should not be.

    Args:
        address: The server's.
        expected: What each version recommends to who did what ``ASKED`` says.
    """

    def __init__(self, address, expected):
        self.address, self.expected = address, expected
        self.faults, self.seen = [], set()
        self.state = b""

    def check(self, answers):
        """The answers to one call are of one version, and what it recommends."""
        self.seen.update(answer.model_version for answer in answers)
        if len({answer.model_version for answer in answers}) != 1:
            self.faults.append("a batch of two versions")
        for answer in answers:
            items = [one.item_id for one in answer.recommendations]
            if items != self.expected[answer.model_version]:
                self.faults.append((answer.model_version, items))

    def call_until(self, stop):
        """Recommend, in a batch, and from a state, as often as time allows."""
        batch = pb.BatchRecommendRequest(requests=[ASKED] * 3)
        channel = grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)])
        with channel:
            stub = RecommenderServiceStub(channel)
            while not stop.is_set():
                try:
                    answer = stub.Recommend(ASKED, timeout=10)
                    self.check([answer])
                    results = stub.BatchRecommend(batch, timeout=10).results
                    self.check([result.response for result in results])
                    carried = pb.RecommendRequest(state=self.state or answer.state)
                    self.state = stub.Recommend(carried, timeout=10).state
                except grpc.RpcError as error:
                    self.faults.append(error)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_twenty_swaps_under_load_lose_and_mix_nothing(serve, store, trained, workers):
    """Each answer is wholly of the version that it names, also in a batch, and none fails."""
    make_version(trained, store, SECOND, source="transitions")
    write_pin(store, FIRST)
    _, address = serve("--workers", workers, "--reload-seconds", "0.05")

    def switch_to(version):
        write_pin(store, version)
        wait_until(lambda: version_of(address) == version)

    expected = {}
    for version in (FIRST, SECOND):
        switch_to(version)
        with calling(address) as call:
            expected[version] = [one.item_id for one in call(ASKED, timeout=10).recommendations]
    assert expected[FIRST] != expected[SECOND]
    stop = threading.Event()
    callers = [Caller(address, expected) for _ in range(4)]
    threads = [threading.Thread(target=caller.call_until, args=(stop,)) for caller in callers]
    for thread in threads:
        thread.start()
    for swap in range(20):
        switch_to((FIRST, SECOND)[swap % 2])
    stop.set()
    for thread in threads:
        thread.join(20)
    assert [caller.faults for caller in callers] == [[]] * 4
    assert set().union(*(caller.seen for caller in callers)) == {FIRST, SECOND}


def test_a_bad_version_is_refused_until_it_is_whole(serve, store, trained, tmp_path):
    """A half copied version is left out, logged once, and served when the rest of it has come."""
    _, address = serve("--reload-seconds", "0.1", "--workers", "2")
    bundle = make_version(trained, tmp_path, SECOND)
    half = store / SECOND
    missing = "item_embeddings.npy"
    shutil.copytree(bundle, half, ignore=shutil.ignore_patterns(missing))
    log = tmp_path / "log"
    wait_until(lambda: missing in log.read_text())
    time.sleep(0.5)
    assert log.read_text().count("refused, the version before goes on") <= 2
    assert version_of(address) == FIRST
    shutil.copy(bundle / missing, half)
    wait_until(lambda: version_of(address) == SECOND)


def test_a_server_that_starts_beside_a_bad_version_serves_the_one_before(serve, store):
    """A replica that is started anew must not stay away because of it."""
    bad = store / SECOND
    bad.mkdir()
    (bad / "manifest.json").write_text("{}")
    _, address = serve()
    assert version_of(address) == FIRST


def test_the_removal_of_what_is_served_stops_nothing(serve, store, trained, tmp_path):
    """Its directory and even the store may go; a version that comes later is served."""
    _, address = serve("--reload-seconds", "0.1")
    shutil.rmtree(store)
    wait_until(lambda: "no such directory" in (tmp_path / "log").read_text())
    with calling(address) as call:
        assert call(ASKED, timeout=10).recommendations
    store.mkdir()
    make_version(trained, store, SECOND)
    wait_until(lambda: version_of(address) == SECOND)


def _take_away(bundle):
    bundle.rename(bundle.with_name(f".{bundle.name}"))


def _bring_back(bundle):
    bundle.with_name(f".{bundle.name}").rename(bundle)


def _flip_a_bit(bundle):
    path = bundle / "item_factors.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "case",
    [
        (_take_away, _bring_back, ["--metrics-address", "127.0.0.1:0"]),
        (_flip_a_bit, _flip_a_bit, []),
    ],
)
def test_a_worker_dies_when_what_is_served_cannot_be_read_any_more(serve, store, tmp_path, case):
    """The others go on, and as soon as it can be read again there are as many as before."""
    breaks, mends, metrics = case
    process, address = serve("--workers", "2", "--reload-seconds", "0.1", *metrics)
    before = workers_of(process)
    breaks(store / FIRST)
    os.kill(before[0], signal.SIGKILL)
    told = "cannot load what others serve"
    wait_until(lambda: (tmp_path / "log").read_text().count(told) >= 2, seconds=40)
    for _ in range(20):
        assert version_of(address) == FIRST
    assert before[1] in workers_of(process)
    mends(store / FIRST)
    wait_until(
        lambda: (
            len(found := workers_of(process)) == 2
            and before[1] in found
            and (tmp_path / "log").read_text().count("serving version") >= 1
        ),
        seconds=40,
    )
    assert process.poll() is None
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_version_before_answers_its_states(serve, store, trained):
    """A state of the version before is answered by it, and the answer says to send the history."""
    _, address = serve("--reload-seconds", "0.1", "--workers", "2")
    with calling(address) as call:
        state = call(ASKED, timeout=10).state
        make_version(trained, store, SECOND, source="transitions")
        wait_until(lambda: call(ASKED, timeout=10).model_version == SECOND)
        answer = call(pb.RecommendRequest(state=state), timeout=10)
    assert (answer.model_version, answer.send_history) == (FIRST, True)


def test_sighup_and_a_call_look_for_a_version_at_once(serve, store, trained):
    """With --reload-seconds 0 only they do; the call says what came of it."""
    process, address = serve("--reload-seconds", "0", "--admin-port", "0", "--workers", "2")
    make_version(trained, store, SECOND)
    time.sleep(0.3)
    assert version_of(address) == FIRST
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: version_of(address) == SECOND)


def test_the_admin_port_reloads_and_tells(serve, store, trained, tmp_path):
    """POST /reload answers when the version is served, or says why it is not."""
    process, _ = serve("--reload-seconds", "0", "--admin-port", "0", "--workers", "2")
    log = (tmp_path / "log").read_text()
    base = "http://" + log.split("admin calls on ")[1].split()[0]

    def ask(path, data=None, **headers):
        request = urllib.request.Request(base + path, data=data, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    make_version(trained, store, SECOND)
    assert ask("/reload", b"") == (200, {"version": SECOND, "refused": ""})
    code, status = ask("/status")
    assert (code, status["version"], status["loading"]) == (200, SECOND, False)
    assert [worker["version"] for worker in status["workers"]] == [SECOND, SECOND]
    assert sorted(worker["pid"] for worker in status["workers"]) == sorted(workers_of(process))

    bad = store / "20030101T000000Z"
    bad.mkdir()
    (bad / "manifest.json").write_text("{}")
    code, answer = ask("/reload", b"")
    assert (code, answer["version"]) == (409, SECOND)
    assert bad.name in answer["refused"]
    assert ask("/nothing")[0] == 404
    assert ask("/status", Host="evil.example:80")[0] == 404


def test_pin_names_the_version_to_serve(store, trained):
    """`kinrec pin` pins, lists and lets go; what is not there is refused in one line."""
    make_version(trained, store, SECOND)

    def pin(*arguments):
        done = subprocess.run(
            [KINREC, "pin", store, *arguments], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert pin() == (0, f"{FIRST}\n{SECOND}  newest\n", "")
    assert pin(FIRST) == (0, f"{FIRST}  pinned\n{SECOND}\n", "")
    assert pin("2026") == (2, "", f"kinrec pin: {store}: has no complete version '2026'\n")
    assert pin("--newest") == (0, f"{FIRST}\n{SECOND}  newest\n", "")
    (store / FIRST / "popularity.npy").write_bytes(b"damaged")
    code, said, error = pin(FIRST)
    assert (code, said) == (2, "")
    assert f"{FIRST}/popularity.npy: " in error
    assert pin() == (0, f"{FIRST}\n{SECOND}  newest\n", "")
    assert list_versions(store) == [FIRST, SECOND]
    for version in (FIRST, SECOND):
        shutil.rmtree(store / version)
    code, said, error = pin()
    assert (code, said) == (2, "")
    assert error.startswith(f"kinrec pin: {store}: holds no complete bundle")


@pytest.mark.parametrize("flags", [(), ("--version", FIRST)])
def test_a_bundle_that_is_refused_and_has_no_substitute_ends_the_start(store, flags):
    """Exit code 2 and one line; it is not tried again and again."""
    (store / FIRST / "encoder.onnx").write_bytes(b"no graph")
    done = subprocess.run(
        [KINREC, "serve", store if flags else store / FIRST, "--port", "0", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "encoder.onnx" in line


def test_a_pin_to_what_has_gone_is_told_of(store, trained):
    """The list shows it, and a server that starts says how to let go of it."""
    make_version(trained, store, SECOND)
    write_pin(store, FIRST)
    shutil.rmtree(store / FIRST)

    def run(*command):
        done = subprocess.run([KINREC, *command], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert run("pin", store) == (0, f"{SECOND}\n{FIRST}  pinned, but not there\n", "")
    code, said, error = run("serve", store, "--port", "0")
    assert (code, said) == (2, "")
    assert error.endswith(f"which is pinned; 'kinrec pin {store} --newest' lets go of it\n")


def test_a_file_that_breaks_while_serving_keeps_no_worker_away_for_long(serve, tmp_path):
    """A worker that comes anew and cannot use it is tried again; the others go on meanwhile."""
    made = subprocess.run(
        [KINREC, "token", "shop", "--out", tmp_path / "token"],
        capture_output=True,
        text=True,
        check=True,
    )
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(made.stdout)
    process, address = serve("--workers", "2", "--tokens", tokens)
    before = workers_of(process)
    tokens.write_text("no tokens")
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: f"cannot serve: --tokens {tokens}" in (tmp_path / "log").read_text())
    with grpc.insecure_channel(address) as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=10, wait_for_ready=True)
    assert answer.status == HealthCheckResponse.SERVING
    tokens.write_text(made.stdout)

    def has_two_again():
        found = workers_of(process)
        return len(found) == 2 and before[0] not in found and before[1] in found

    wait_until(has_two_again)
    time.sleep(2.0)  # one that could not serve would have ended by now
    assert has_two_again()
    assert process.poll() is None
