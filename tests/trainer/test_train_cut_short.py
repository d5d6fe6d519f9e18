"""`kinrec train` cut short: a full disk, a kill or Ctrl-C leaves no half of a bundle, and it can go on."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl

from kinrec.engine.store import find_bundle, list_versions, read_manifest

KINREC = Path(sys.executable).with_name("kinrec")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_a_full_disk_is_one_line_and_leaves_no_version(tmp_path):
    """A bundle that does not fit is refused with exit code 2, and the store shows nothing of it."""
    rows = [(f"u{n % 80}", f"i{(n + n // 80) % 17}", 1_700_000_000 + n) for n in range(20_000)]
    events = tmp_path / "events.parquet"
    pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").write_parquet(events)
    store = tmp_path / "store"
    command = [KINREC, "train", "--events", events, "--out", store, "--epochs", "1"]
    command += ["--vector-size", "4", "--hidden-size", "4", "--factors", "2"]
    # The checkpoint fits into 120 blocks of 1,024 bytes, the 20,000 times of the histories do not.
    line = f"ulimit -f 120; exec {shlex.join(map(str, command))}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith(f"kinrec train: {store}: cannot be written: ")
    assert "factorizing and indexing what the search found" in done.stdout
    assert [entry.name for entry in store.iterdir()] == [".training"]
    assert list_versions(store) == []


def test_a_killed_training_resumes_to_the_same_files(tmp_path, sample_dir, bundle_store):
    """Killed in the search and resumed, it writes byte for byte what the unbroken run wrote."""
    store = tmp_path / "shop"
    command = [KINREC, "train", "--events", sample_dir / "events.csv"]
    command += ["--items", sample_dir / "items.csv", "--out", store, "--epochs", "4"]
    command += ["--vector-size", "32", "--hidden-size", "32", "--factors", "32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        for line in process.stdout:
            if line.startswith("search, fit 1 of 3: epoch 2/4"):
                process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    assert list_versions(store) == []
    assert list((store / ".training").glob("*.pt"))

    other = subprocess.run(
        [*command, "--resume", "--epochs", "1"],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    assert "nothing to resume, what was left is of other events or settings" in other.stdout
    shutil.rmtree(find_bundle(store))

    resumed = subprocess.run(
        [*command, "--resume"], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert re.search(r"^search: going on after epoch [12]$", resumed.stdout, re.MULTILINE)
    assert "search, fit 1 of 3: epoch 1/4" not in resumed.stdout
    assert not (store / ".training").exists()
    for part in (".", "evaluation"):
        ours, theirs = (read_manifest(find_bundle(path) / part) for path in (store, bundle_store))
        assert dict(ours.training_config) == dict(theirs.training_config)
        assert {name: file.sha256 for name, file in ours.files.items()} == {
            name: file.sha256 for name, file in theirs.files.items()
        }
        assert ours.validation == theirs.validation


def test_an_interrupted_training_says_how_to_go_on(tmp_path, sample_dir):
    """Ctrl-C ends with one line that names the flag, and no traceback."""
    command = [KINREC, "train", "--events", sample_dir / "events.csv", "--out", tmp_path / "shop"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        for line in process.stdout:
            if line.startswith("search, fit 1 of 3: epoch 1/"):
                process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == (
            "kinrec train: interrupted; the same command with --resume goes on\n"
        )


def test_an_interruption_before_the_first_epoch_promises_nothing(tmp_path, sample_dir):
    """There is nothing to resume then, and no empty store."""
    store = tmp_path / "shop"
    command = [KINREC, "train", "--events", sample_dir / "events.csv", "--out", store]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == (
        "kinrec train: interrupted before the first epoch was over, so there is nothing to resume\n"
    )
    assert not store.exists()
