"""The server that is soaked: started, looked at from outside, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KINREC = (sys.executable, "-m", "kinrec.cli")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """What a server and its workers hold.

    Attributes:
        memory_mib: Of all its processes, in MiB, what they share counted once.
        files: Open file descriptors of all.
        threads: Threads of all.
    """

    memory_mib: float
    files: int
    threads: int


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is ready.

    Attributes:
        pid: Of the supervisor.
        address: Where it listens.
        store: What it serves.
        log: What it wrote to standard error.
    """

    pid: int
    address: str
    store: Path
    log: Path

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
        return [int(pid) for pid in children.split()]

    def resources(self) -> Resources:
        """What it holds now; of a worker that dies meanwhile nothing."""
        memory, files, threads = 0.0, 0, 0
        for pid in [self.pid, *self.workers()]:
            try:
                proc = Path(f"/proc/{pid}")
                lines = (proc / "smaps_rollup").read_text("ascii").splitlines()
                memory += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                files += sum(1 for _ in (proc / "fd").iterdir())
                threads += sum(1 for _ in (proc / "task").iterdir())
            except OSError:
                continue
        return Resources(memory / _KIB, files, threads)


@contextmanager
def serve(store: Path, log: Path, workers: int) -> Iterator[tuple[Served, subprocess.Popen[str]]]:
    """Serve a store until the end of the block, however that comes."""
    command = [*KINREC, "serve", store, "--port", "0", "--workers", str(workers)]
    command += ["--reload-seconds", "0.2", "--drain-wait", "0.5", "--max-wait", "2"]
    environment = os.environ | {"KINREC_STATE_KEY": "soak" * 8}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError(f"the server did not start: {log.read_text()}")
            yield Served(process.pid, line.split()[-1], store, log), process
        finally:
            process.kill()
