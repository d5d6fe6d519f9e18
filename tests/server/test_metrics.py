"""The metrics, the dashboard, `kinrec top` and the log of a real server of two workers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from kinrec.server.observability.scrape import read_metrics
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

PROJECT = Path(__file__).parents[2]
KINREC = Path(sys.executable).with_name("kinrec")
VIEW = pb.Event(item_id="i7", event_type="view")


class Running:
    """A server, with the lines of its log so far."""

    def __init__(self, store, folder, *flags):
        self.log_file = folder / "log"
        command = [KINREC, "serve", store, "--port", "0", "--drain-wait", "0"]
        command += ["--metrics-address", "127.0.0.1:0", *flags]
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder
            )
        line = self.process.stdout.readline()
        assert line.startswith("kinrec: serving "), self.log_file.read_text()
        self.address = line.split()[-1]
        found = re.search(r"metrics on http://(\S+)/metrics", self.log_file.read_text())
        self.metrics = found.group(1)

    def wait_for(self, is_there):
        """Read the metrics until they say something; the last reading."""
        for _ in range(100):
            reading = read_metrics(self.metrics)
            if is_there(reading):
                return reading
            time.sleep(0.05)
        raise AssertionError(reading.samples)

    def stop(self):
        """End it; it must end well."""
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(bundle_store, tmp_path_factory):
    """A server of two workers that has answered calls of every kind."""
    flags = ("--workers", "2", "--log-format", "json", "--slow-call-ms", "0", "--log-calls")
    running = Running(bundle_store, tmp_path_factory.mktemp("server"), *flags)
    ask(running.address)
    yield running
    running.stop()


def ask(address):
    """Make calls of every kind; two of them and one of a batch fail, one is of no method."""
    for _ in range(2):  # each connection is of a worker, not always of another
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = RecommenderServiceStub(channel)
            stub.Recommend(pb.RecommendRequest(events=[VIEW, pb.Event(item_id="no such item")]))
    with grpc.insecure_channel(address) as channel:
        stub = RecommenderServiceStub(channel)
        person = pb.RecommendRequest(events=[VIEW], user_id="u1")
        stub.EncodeSequence(pb.EncodeSequenceRequest(events=[VIEW]))
        stub.SimilarUsers(pb.SimilarUsersRequest(events=[VIEW]))
        stub.Rank(pb.RankRequest(events=[VIEW], item_ids=["i1", "i2"]))
        stub.SimilarItems(pb.SimilarItemsRequest(item_id="i7"))
        stub.GetModel(pb.GetModelRequest())
        nobody = pb.RecommendRequest(user_id="nobody-we-know")
        stub.BatchRecommend(pb.BatchRecommendRequest(requests=[person, nobody]))
        stub.BatchEncode(pb.BatchEncodeRequest(requests=[pb.EncodeSequenceRequest(events=[VIEW])]))
        start = pb.RecommendStreamRequest(start=person)
        more = pb.RecommendStreamRequest(events=pb.EventList(events=[VIEW]))
        assert len(list(stub.RecommendStream(iter([start, more])))) == 3
        for request in (nobody, pb.RecommendRequest(events=[VIEW], limit=-1)):
            with pytest.raises(grpc.RpcError):
                stub.Recommend(request)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/kinrec.v1.RecommenderService/Guess")(b"")


def test_calls_are_counted_over_all_workers(server):
    """Each call counts once, by method and code, whoever answered it; methods are those that exist."""
    reading = server.wait_for(lambda now: now.total("kinrec_calls_total") >= 13)
    counted = {
        (labels["method"], labels["code"]): value
        for labels, value in reading.of("kinrec_calls_total")
        if value
    }
    once = ("EncodeSequence", "SimilarUsers", "Rank", "SimilarItems", "GetModel")
    once += ("BatchRecommend", "BatchEncode", "RecommendStream")
    assert counted == {
        **{(method, "OK"): 1 for method in once},
        ("Recommend", "OK"): 2,
        ("Recommend", "NOT_FOUND"): 1,
        ("Recommend", "INVALID_ARGUMENT"): 1,
        ("unknown", "UNIMPLEMENTED"): 1,
    }
    assert reading.total("kinrec_errors_total", reason="UNKNOWN_USER") == 2  # one of the batch
    assert reading.total("kinrec_errors_total", reason="INVALID_FIELD") == 1
    assert reading.total("kinrec_calls_in_flight") == 0
    assert reading.total("kinrec_calls_waiting") == 0
    assert reading.total("kinrec_workers") == 2
    ((model, workers),) = reading.of("kinrec_model_info")
    assert (model["name"], workers) == ("shop", 2)


def test_times_and_work_are_measured(server):
    """Answered calls and messages of streams are timed by stage; people and events are counted."""
    reading = server.wait_for(lambda now: now.total("kinrec_calls_total") >= 13)
    seconds, stages = "kinrec_call_seconds", "kinrec_stage_seconds"
    assert reading.total(f"{seconds}_count", method="Recommend") == 2
    assert reading.total(f"{seconds}_count", method="RecommendStream") == 2
    for method in ("Recommend", "SimilarUsers", "BatchRecommend", "GetModel"):
        whole = reading.total(f"{seconds}_sum", method=method)
        assert whole == pytest.approx(reading.total(f"{stages}_sum", method=method))
    named = {labels["stage"] for labels, _ in reading.of(f"{stages}_count", method="Recommend")}
    assert named == {"queue", "receive", "decode", "turn", "read", "encode", "search", "answer"}
    assert reading.total(f"{stages}_count", method="RecommendStream", stage="queue") == 0
    assert reading.total("kinrec_people_total", method="BatchRecommend") == 1
    assert reading.total("kinrec_people_total", method="RecommendStream") == 2
    assert reading.total("kinrec_events_total", fate="unknown_item") == 2
    assert reading.total("kinrec_events_total", fate="used") >= 8
    assert reading.total("kinrec_encoder_batch_size_count") >= 6
    assert reading.total("kinrec_neighbours_found_count") >= 1
    workers = {labels["worker"] for labels, _ in reading.of("process_cpu_seconds_total")}
    assert workers == {"supervisor", "0", "1"}


def test_the_dashboard_names_what_a_server_has(server):
    """Every metric of deploy/grafana.json is one that a server exposes."""
    board = json.loads((PROJECT / "deploy" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(asked) > 20
    named = set(re.findall(r"\b(?:kinrec|process)_\w+", " ".join(asked)))
    assert named
    assert named <= set(read_metrics(server.metrics).samples)


def test_nothing_tells_of_persons(server):
    """Neither metrics nor log have ids of users or items."""
    told = json.dumps([str(name) for name in read_metrics(server.metrics).samples.items()])
    for text in (told, server.log_file.read_text()):
        assert "nobody-we-know" not in text
        assert not re.search(r"\b(i7|u1)\b", text)


def test_the_log_is_json(server):
    """Each line is an object; slow calls have the times of their stages, failures their reason."""
    lines = [json.loads(line) for line in server.log_file.read_text().splitlines()]
    assert all(line["timestamp"] and line["level"] for line in lines)
    slow = [line for line in lines if line["event"] == "slow call"]
    (similar,) = [line for line in slow if line["method"] == "SimilarUsers"]
    assert similar["code"] == "OK"
    assert re.fullmatch(r"[0-9a-f]{32}", similar["request_id"])
    assert similar["model_version"]
    assert sum(similar["stages_ms"].values()) == pytest.approx(similar["duration_ms"], abs=0.01)
    assert {line.get("reason") for line in lines if line.get("code") == "NOT_FOUND"} == {
        "UNKNOWN_USER"
    }
    assert sum(line["event"] == "slow message" for line in lines) == 2


def test_top_prints_a_frame(server):
    """`kinrec top --once` shows each method that was called."""
    command = [KINREC, "top", "--target", server.metrics, "--once", "--interval", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "shop" in done.stdout
    assert "workers 2" in done.stdout
    assert re.search(r"Recommend +0\.0", done.stdout)
    assert "p99 ms" in done.stdout


def test_what_a_dead_worker_counted_stays(bundle_store, tmp_path):
    """A killed worker is no more counted as one, and who takes its place counts on."""
    server = Running(bundle_store, tmp_path, "--workers", "2")
    with grpc.insecure_channel(server.address) as channel:
        stub = RecommenderServiceStub(channel)
        for _ in range(3):
            stub.GetModel(pb.GetModelRequest(), wait_for_ready=True)
        before = server.wait_for(lambda now: now.total("kinrec_calls_total") >= 3)
        task = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        os.kill(int(task.read_text().split()[0]), signal.SIGKILL)
        server.wait_for(lambda now: now.total("kinrec_workers") < 2)
        server.wait_for(lambda now: now.total("kinrec_workers") == 2)
        stub.GetModel(pb.GetModelRequest(), wait_for_ready=True)
        after = server.wait_for(lambda now: now.total("kinrec_calls_total") >= 4)
    assert before.total("kinrec_calls_total") == 3
    assert after.total("kinrec_calls_total", method="GetModel", code="OK") == 4
    workers = {labels["worker"] for labels, _ in after.of("process_open_fds")}
    assert workers == {"supervisor", "0", "1"}
    assert after.total("kinrec_reloads_total") == 0  # it serves what the others serve
    server.stop()


def test_nothing_is_left_of_a_supervisor_that_is_killed(bundle_store, tmp_path):
    """The workers drain, and remove the files of the metrics that nobody serves any more."""
    server = Running(bundle_store, tmp_path, "--workers", "2")
    files = f"kinrec-metrics-{server.process.pid}-*"
    assert [*Path("/dev/shm").glob(files)]  # noqa: S108 - where the server has them
    server.process.kill()
    server.process.communicate(timeout=10)
    deadline = time.monotonic() + 10
    while [*Path("/dev/shm").glob(files)]:  # noqa: S108
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said = server.log_file.read_text()
    assert "kinrec.server.processes.worker: the supervisor is gone: draining" in said
    assert "Traceback" not in said


def test_one_worker_counts_in_the_same_process(bundle_store, tmp_path):
    """With one worker the same metrics come under the same address; ids are logged when allowed."""
    flags = ("--workers", "1", "--log-calls", "--log-personal-data")
    server = Running(bundle_store, tmp_path, *flags)
    ask(server.address)
    reading = server.wait_for(lambda now: now.total("kinrec_calls_total") >= 13)
    assert reading.total("kinrec_calls_total", method="Recommend", code="OK") == 2
    assert reading.total("kinrec_workers") == 1
    assert reading.total("process_resident_memory_bytes") > 0
    server.stop()
    assert "user_id=nobody-we-know" in server.log_file.read_text()


@pytest.mark.parametrize("address", ["nowhere", "localhost:http", ":9100", "::1:9100", "a:70000"])
def test_an_address_that_is_none_is_refused(tmp_path, address):
    """It is named, in one line."""
    assert address in refused(tmp_path, "--metrics-address", address)


def test_an_address_in_use_is_refused(bundle_store):
    """It is named, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        line = refused(bundle_store, "--port", "0", "--metrics-address", address)
    assert address in line
    assert "in use" in line


def refused(*arguments):
    """Run `kinrec serve` that must refuse; return its one line."""
    done = subprocess.run(
        [KINREC, "serve", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def test_top_without_metrics():
    """`kinrec top` says in one line that there is nothing to show."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    done = subprocess.run(
        [KINREC, "top", "--target", target],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kinrec top: no metrics at {target}: ")
