"""What several rooms' tests share: one small log, one bundle trained on it by the real command, and keys."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINREC = (sys.executable, "-m", "kinrec.cli")


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events.csv and items.csv of 300 users and 200 items."""
    directory = tmp_path_factory.mktemp("sample")
    command = (*KINREC, "sample-data", "--users", "300", "--items", "200", "--seed", "7")
    subprocess.run([*command, "--out", directory], check=True, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def train() -> Callable[..., None]:
    """Train a small bundle into a store: `train(sample_dir, store, *flags)`."""

    def run(sample: Path, store: Path, *flags: str) -> None:
        command = [*KINREC, "train", "--events", sample / "events.csv"]
        command += ["--items", sample / "items.csv", "--out", store, "--epochs", "4"]
        command += ["--vector-size", "32", "--hidden-size", "32", "--factors", "32", *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment)

    return run


@pytest.fixture(scope="session")
def bundle_store(
    sample_dir: Path, tmp_path_factory: pytest.TempPathFactory, train: Callable[..., None]
) -> Path:
    """A store with one bundle trained on the sample."""
    store = tmp_path_factory.mktemp("models") / "shop"
    train(sample_dir, store)
    return store


class Replica:
    """A server: a process, its workers, and nobody else in their process group.

    Args:
        store: What it serves.
        flags: Further flags of `kinrec serve`.
    """

    def __init__(self, store: Path, *flags: str) -> None:
        # Tests share the machine: no call is to be refused because another process had its turn.
        command = [*KINREC, "serve", store, "--max-wait", "10", *flags]
        environment = os.environ | {
            "KINREC_STATE_KEY": "a-key-that-all-replicas-of-the-tests-share"
        }
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._address = ""

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        if not self._address:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line.startswith("kinrec: serving ")
            self._address = line.split()[-1]
        return self._address

    def kill(self) -> None:
        """Kill all of its processes at once, as when its machine goes."""
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=10)


@pytest.fixture
def start_replica() -> Iterator[Callable[..., Replica]]:
    """Start servers that share a key: `start_replica(store, "--port", "0", …)`. They end with the test."""
    replicas: list[Replica] = []

    def start(store: Path, *flags: str) -> Replica:
        replicas.append(Replica(store, *flags))
        return replicas[-1]

    yield start
    for replica in replicas:
        replica.kill()


@pytest.fixture(scope="session")
def address(bundle_store: Path) -> Iterator[str]:
    """The address of a real server process that serves the bundle."""
    command = [*KINREC, "serve", bundle_store, "--port", "0", "--drain-wait", "0", "--reflection"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("kinrec: serving ")
        yield line.split()[-1]
        process.terminate()
        assert process.wait(30) == 0


class Authority:
    """An authority of a test's own, and the certificates that it gave.

    Attributes:
        root: Its root, as a file.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._ca = trustme.CA()
        self.root = directory / "root.pem"
        self.root.write_bytes(self._ca.cert_pem.bytes())

    def issue(self, name: str, *, days: int = 1) -> tuple[Path, Path]:
        """Write a certificate for ``localhost`` and its key; with fewer days than one it has expired."""
        until = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        given = self._ca.issue_cert(
            "localhost", "127.0.0.1", not_before=until - dt.timedelta(days=9), not_after=until
        )
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in given.cert_chain_pems))
        key.write_bytes(given.private_key_pem.bytes())
        return cert, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who the server's certificate is from."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority."""
    return Authority(tmp_path / "stranger")
