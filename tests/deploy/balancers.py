"""Starts balancers with the files of deploy/, of which only the lines marked as the user's are changed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEPLOY = Path(__file__).parents[2] / "deploy"
MARK = "# yours"


class Balancer:
    """A balancer on a free port of 127.0.0.1.

    Args:
        folder: Where its files go.
        ports: Where the replicas listen.

    Attributes:
        program: What runs.
        may_fail: The share of calls that may fail while replicas come and go.
    """

    program: str
    may_fail = 0.0

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self._folder = folder
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        self._write(ports)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)

    @classmethod
    def path(cls) -> str | None:
        """The program, from the environment of this Python or from the system; None if it is missing."""
        beside = Path(sys.executable).with_name(cls.program)
        return str(beside) if beside.exists() else shutil.which(cls.program, path=_PATH)

    def set_replicas(self, ports: Sequence[int]) -> None:
        """Give it another list of replicas while it runs."""
        raise NotImplementedError

    def log(self) -> str:
        """What it printed."""
        return (self._folder / "log").read_text("utf-8", "replace")

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _write(self, ports: Sequence[int]) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError


class Envoy(Balancer):
    """Envoy, which reads its list of replicas anew when the file is replaced."""

    program = "envoy"

    def set_replicas(self, ports: Sequence[int]) -> None:
        """Put another list in the place of the one it has."""
        text = _with_replicas((DEPLOY / "envoy-replicas.yaml").read_text(), "50051", ports)
        new = self._folder / "new.yaml"
        new.write_text(text)
        new.rename(self._folder / "envoy-replicas.yaml")

    def _write(self, ports: Sequence[int]) -> None:
        changes = {
            "9901": str(free_port()),
            "50050": str(self.port),
            "deploy/envoy-replicas.yaml": str(self._folder / "envoy-replicas.yaml"),
        }
        text = _edited((DEPLOY / "envoy.yaml").read_text(), changes)
        (self._folder / "envoy.yaml").write_text(text)
        self.set_replicas(ports)

    def _command(self) -> list[str]:
        config = str(self._folder / "envoy.yaml")
        # Without a hot restart several of them may run on one machine.
        return [str(self.path()), "-c", config, "--disable-hot-restart", "--log-level", "warning"]


class HAProxy(Balancer):
    """HAProxy, which reads its file anew on a signal."""

    program = "haproxy"
    # None did when this was written; but HAProxy takes seconds to see that a replica drains, and repeats
    # no call of which it has sent a part on.
    may_fail = 0.0005

    def set_replicas(self, ports: Sequence[int]) -> None:
        """Rewrite its file and tell it."""
        self._write(ports)
        self._process.send_signal(signal.SIGUSR2)

    def _write(self, ports: Sequence[int]) -> None:
        text = _edited((DEPLOY / "haproxy.cfg").read_text(), {"50050": str(self.port)})
        (self._folder / "haproxy.cfg").write_text(_with_replicas(text, "50051", ports))

    def _command(self) -> list[str]:
        return [str(self.path()), "-W", "-f", str(self._folder / "haproxy.cfg")]


_PATH = (
    f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"  # a user's own may lack sbin
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _edited(text: str, changes: dict[str, str]) -> str:
    """Change what is to be edited: each of these stands in exactly one line of the user's."""
    lines = text.splitlines()
    for old, new in changes.items():
        (place,) = (n for n, line in enumerate(lines) if line.endswith(MARK) and old in line)
        lines[place] = lines[place].replace(old, new)
    return "\n".join(lines) + "\n"


def _with_replicas(text: str, first: str, ports: Sequence[int]) -> str:
    """Replace the lines of the replicas, which begin with that of port `first`, by one for each port."""
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if line.endswith(MARK) and "5005" in line]
    places = [n for n in places if "50050" not in lines[n]]
    pattern = next(lines[n] for n in places if first in lines[n])
    new = [
        pattern.replace(first, str(port)).replace("replica-1", f"replica-{n}")
        for n, port in enumerate(ports, 1)
    ]
    return "\n".join(lines[: places[0]] + new + lines[places[-1] + 1 :]) + "\n"
