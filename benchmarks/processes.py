"""Servers as processes of their own, pinned to a core, and what they cost."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CPUCLOCK_SCHED = 2  # of clock_getcpuclockid(3), which Python does not offer


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the measured process runs, and where the load comes from.

    Attributes:
        server: The core of the measured process.
        load: The cores of the load: all others, or the same where there is one only.
    """

    server: int
    load: frozenset[int]

    @classmethod
    def choose(cls) -> Cores:
        """Take the last core that this process may use for the server."""
        allowed = os.sched_getaffinity(0)
        server = max(allowed)
        return cls(server, frozenset(allowed - {server} or allowed))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready.

    Attributes:
        pid: The process.
        address: Where it listens.
        ready_seconds: From its start to its saying so.
    """

    pid: int
    address: str
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """CPU time so far of all threads of the process and of those that it has started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        pids = [self.pid, *map(int, children.split())]
        return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)

    def resident_mib(self) -> float:
        """Resident memory, shared pages included."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


@contextmanager
def serve(command: Sequence[str | Path], cores: Cores | None) -> Iterator[Server]:
    """Run a server on its core, or on all; its first line ends with its address once it is ready."""
    before = time.perf_counter()
    if cores is not None:
        os.sched_setaffinity(0, {cores.server})  # the process that is started inherits it
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if cores is not None:
        os.sched_setaffinity(0, cores.load)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"{command[0]} did not start; run it by hand to see why")
        yield Server(process.pid, line.split()[-1], time.perf_counter() - before)
    finally:
        process.terminate()
        process.wait(30)
