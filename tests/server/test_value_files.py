"""The files of the metrics have room before they are written to, or are somewhere else."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from prometheus_client.mmap_dict import MmapedDict

from kinrec.server.observability.scrape import read_metrics
from kinrec.server.observability.value_files import SIZES, empty_live, make_files
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

KINREC = Path(sys.executable).with_name("kinrec")

# Every value that a process can have, and 100 versions.
ALL_VALUES = """
import grpc
from kinrec.server.observability import families
from kinrec.server.observability.calls import STAGES
from kinrec.server.servicer import METHODS
from kinrec.v1 import recommender_pb2 as pb
for method in (*METHODS, "unknown"):
    for code in grpc.StatusCode:
        families.CALLS.labels(method, code.name)
    for family in (families.CALL_SECONDS, families.IN_FLIGHT, families.PEOPLE):
        family.labels(method)
    for stage in STAGES:
        families.STAGE_SECONDS.labels(method, stage)
for reason in pb.ErrorReason.keys():
    families.ERRORS.labels(reason)
for number in range(100):
    families.MODEL_INFO.labels("a-model-of-some-name", f"{number:015}Z")
"""


def test_what_a_process_counts_fits(tmp_path):
    """All values take at most half of each file, so that none grows beyond the room it has."""
    directory = make_files(["7"], [str(tmp_path)]).directory
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": directory, "KINREC_WORKER": "7"}
    subprocess.run([sys.executable, "-c", ALL_VALUES], check=True, env=environment, timeout=60)
    files = {path.name: path for path in Path(directory).iterdir()}
    assert files.keys() == {f"{kind}_7.db" for kind in SIZES}
    for kind, size in SIZES.items():
        file = files[f"{kind}_7.db"]
        assert file.stat().st_size == size
        assert file.stat().st_blocks * 512 >= size
        assert 8 < int.from_bytes(file.read_bytes()[:4], sys.byteorder) < size / 2


def test_a_place_without_room_is_passed_over(tmp_path, monkeypatch, caplog):
    """The next one is taken, and the log says so; where none has room that is an error."""
    full, roomy = tmp_path / "full", tmp_path / "roomy"
    full.mkdir()
    roomy.mkdir()
    write = Path.write_bytes

    def fill(path, data):
        write(path, data[:4096])
        if full in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    directory = Path(make_files(["0", "1"], [str(full), str(roomy)]).directory)
    assert directory.parent == roomy
    assert len(list(directory.iterdir())) == 2 * len(SIZES)
    assert list(full.iterdir()) == []
    assert caplog.messages == [f"metrics are kept in {roomy}: {full}: No space left on device"]
    with pytest.raises(OSError, match="No space left"):
        make_files(["0"], [str(full)])


def test_what_a_dead_process_was_at_is_forgotten_in_place(tmp_path):
    """Its gauges are gone, and the next one of its name has the same file, with the same room."""
    directory = make_files(["0"], [str(tmp_path)]).directory
    path = Path(directory, "gauge_livesum_0.db")
    file = MmapedDict(str(path))
    file.write_value("calls", 7.0, 0.0)
    file.close()
    inode = path.stat().st_ino
    empty_live(directory, "0")
    assert list(MmapedDict.read_all_values_from_file(str(path))) == []
    assert (path.stat().st_ino, path.stat().st_size) == (inode, SIZES["gauge_livesum"])


def leave(place, name, *, old):
    """Make a directory as a server has it."""
    directory = place / name
    directory.mkdir()
    (directory / "counter_0.db").write_bytes(bytes(8))
    if old:
        os.utime(directory, (0, 0))
    return directory


def test_what_killed_servers_left_is_removed(tmp_path):
    """At the next start; what a server uses, made a moment ago, or is of something else stays."""
    left = leave(tmp_path, "kinrec-metrics-1-left", old=True)
    kept = [
        leave(tmp_path, "kinrec-metrics-1-young", old=False),
        leave(tmp_path, "other-1", old=True),
        Path(make_files(["0"], [str(tmp_path)]).directory),
    ]
    os.utime(kept[-1], (0, 0))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    aside = leave(elsewhere, "data", old=True)
    (tmp_path / "kinrec-metrics-1-link").symlink_to(aside)
    os.utime(tmp_path / "kinrec-metrics-1-link", (0, 0), follow_symlinks=False)
    make_files(["1"], [str(tmp_path)])
    assert not left.exists()
    assert all(list(directory.iterdir()) for directory in [*kept, aside])


def test_files_of_a_server_that_was_killed_are_nobodys(tmp_path):
    """The lock ends with the process that made them, however it ends."""
    make = (
        "import os, signal, sys\n"
        "from kinrec.server.observability.value_files import make_files\n"
        "print(make_files(['0'], [sys.argv[1]]).directory, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", make, tmp_path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    directory = Path(done.stdout.strip())
    assert directory.is_dir()
    os.utime(directory, (0, 0))
    make_files(["1"], [str(tmp_path)])
    assert not directory.exists()


# Makes /dev/shm a small one of its own, starts what it is given, and fills it when it is told to.
SMALL = """
mount -t tmpfs -o size="$1" none /dev/shm || exit 77
shift
"$@" &
server=$!
trap 'kill -TERM $server' TERM
read -r _
dd if=/dev/zero of=/dev/shm/full bs=4k 2>/dev/null
echo full
while kill -0 $server 2>/dev/null; do wait $server; code=$?; done
exit $code
"""


@pytest.fixture
def serve_in(bundle_store, tmp_path):
    """Serve with two workers where /dev/shm has some size; return the process, address and log."""
    if shutil.which("unshare") is None:
        pytest.skip("nothing can be mounted here")
    processes = []

    def start(size):
        command = ["unshare", "-rm", "sh", "-c", SMALL, "sh", size, KINREC, "serve", bundle_store]
        command += ["--port", "0", "--workers", "2", "--metrics-address", "127.0.0.1:0"]
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--drain-wait", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        processes.append(process)
        line = process.stdout.readline()
        if not line:
            pytest.skip("nothing can be mounted here")
        return process, line.split()[-1], tmp_path / "log"

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


@pytest.mark.parametrize("size", ["64k", "4m"])
def test_a_full_memory_kills_no_worker(serve_in, size):
    """Whether it is full at the start or later: calls are answered and counted, and no worker ends."""
    process, address, log = serve_in(size)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "full\n"
    with grpc.insecure_channel(address) as channel:
        stub = RecommenderServiceStub(channel)
        for _ in range(3):
            stub.GetModel(pb.GetModelRequest(), timeout=10)
            stub.Recommend(pb.RecommendRequest(user_id="u1"), timeout=10)
    metrics = log.read_text().split("metrics on http://")[1].split("/")[0]
    deadline = time.monotonic() + 10
    while (counted := read_metrics(metrics).total("kinrec_calls_total")) < 6:
        assert time.monotonic() < deadline, counted
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(20) == 0
    said = log.read_text()
    assert "has ended" not in said
    assert ("shm: No space left on device" in said) == (size == "64k")
