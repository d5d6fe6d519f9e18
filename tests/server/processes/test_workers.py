"""`kinrec serve` with several workers: their port, their ends and their cores."""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from kinrec.v1 import recommender_pb2 as pb

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


def test_workers_share_a_port_and_their_states(serve):
    """Calls on many connections are spread over all workers; a state of one is good for all."""
    process, address = serve("--workers", "2")
    assert len(workers_of(process)) == 2
    with calling(address) as call:
        state = call(ASKED, timeout=10).state
    for _ in range(8):
        with calling(address) as call:
            assert call(pb.RecommendRequest(state=state), timeout=10).recommendations
    process.terminate()
    assert process.wait(20) == 0


def test_a_killed_worker_is_replaced_and_callers_that_retry_notice_nothing(serve, tmp_path):
    """Kill -9 under load: the others go on, a new one comes, and what serves stays the same."""
    process, address = serve("--workers", "2")
    before = workers_of(process)
    stop, failures, answers = threading.Event(), [], []

    def calls():
        while not stop.is_set():
            with calling(address) as call:
                try:
                    answers.append(call(ASKED, timeout=10).model_version)
                except grpc.RpcError as error:
                    failures.append(error.code())

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(set(workers_of(process)) - set(before)) == 1)
    wait_until(lambda: "has ended: signal 9" in (tmp_path / "log").read_text())
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert set(answers) == {FIRST}
    # Only what was on its way to the dead one is lost, with a status that says to try again.
    assert set(failures) <= {grpc.StatusCode.UNAVAILABLE}
    assert len(failures) <= 2 * len(threads)


def test_workers_end_when_their_supervisor_is_killed(serve):
    """No worker stays behind to hold the port."""
    process, address = serve("--workers", "2")
    workers = workers_of(process)
    process.kill()
    process.wait(10)

    def all_ended():
        return not any(Path(f"/proc/{worker}/exe").exists() for worker in workers)

    wait_until(all_ended)
    with calling(address) as call, pytest.raises(grpc.RpcError):
        call(ASKED, timeout=2)


def test_the_only_worker_is_told_of_under_the_number_of_its_process(serve, tmp_path):
    """It is a thread of the supervisor, whose process it is."""
    process, _ = serve("--admin-port", "0", "--workers", "1")
    base = (tmp_path / "log").read_text().split("admin calls on ")[1].split()[0]
    with urllib.request.urlopen(f"http://{base}/status", timeout=30) as answer:
        (worker,) = json.load(answer)["workers"]
    assert worker == {"pid": process.pid, "version": FIRST}


def test_health_says_serving_only_when_all_is_loaded(serve):
    """Who can connect finds a server that answers."""
    _, address = serve("--workers", "2")
    with grpc.insecure_channel(address) as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=10)
    assert answer.status == HealthCheckResponse.SERVING


def test_a_full_disk_under_the_log_stops_nothing(store, trained):
    """What cannot be written is lost; calls, a swap and a worker's death go as always."""
    command = [KINREC, "serve", store, "--port", "0", "--drain-wait", "0", "--workers", "2"]
    command += ["--reload-seconds", "0.1", "--log-calls"]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=full, text=True) as process,
    ):
        try:
            address = process.stdout.readline().split()[-1]
            before = workers_of(process)
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: len(set(workers_of(process)) - set(before)) == 1)
            make_version(trained, store, SECOND)
            wait_until(lambda: version_of(address) == SECOND)
            with calling(address) as call:
                assert call(ASKED, timeout=10, wait_for_ready=True).recommendations
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_each_worker_keeps_to_a_core_where_there_is_one_for_each(serve):
    """The threads of one worker do not contend for its lock on several cores."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("there is one core")
    process, _ = serve("--workers", str(len(cores)))
    kept = [os.sched_getaffinity(worker) for worker in workers_of(process)]
    assert sorted(kept, key=min) == [{core} for core in sorted(cores)]
    process, _ = serve("--workers", str(len(cores) + 1))
    assert all(os.sched_getaffinity(worker) == cores for worker in workers_of(process))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("", "-event_engine_listener"),
        ("event_engine_listener", "event_engine_listener"),
        (
            "tcp_rcv_lowat,-event_engine_dns",
            "tcp_rcv_lowat,-event_engine_dns,-event_engine_listener",
        ),
    ],
)
def test_workers_read_in_the_thread_that_waits_unless_the_environment_says_otherwise(
    serve, monkeypatch, chosen, expected
):
    """What else the environment says of gRPC's experiments is kept."""
    monkeypatch.setenv("GRPC_EXPERIMENTS", chosen)
    process, address = serve("--workers", "2")
    assert version_of(address) == FIRST
    for worker in workers_of(process):
        environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
        assert f"GRPC_EXPERIMENTS={expected}".encode() in environment
