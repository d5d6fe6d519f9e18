"""The workers of a server as their supervisor has them: as processes, or one as a thread."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

from kinrec.server.port import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from kinrec.server.config import ServerConfig
    from kinrec.server.observability.exporter import Exporter
    from kinrec.server.processes.loading import Served

Message = tuple[Any, ...]


class WorkerError(Exception):
    """Workers end before they serve, or the only one does. The text is one line."""


_SOON = 10.0  # seconds; what kills a worker sooner will kill the next as well
_PAUSE, _LONGEST_PAUSE = 0.25, 10.0  # seconds before it is started anew
_END_SECONDS = 5.0  # for a worker to end when it has been told to

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Worker:
    """A worker, and what it was told.

    Attributes:
        connection: To it.
        process: What it runs in; None if in a thread of this process.
        number: From 0, another than those of all others that live.
        serves: What it serves; None if nothing yet.
        prepared: What it has loaded and does not serve yet.
        is_loading: Whether it has been told to load something and has not said how that went.
        address: Where it listens; empty until it serves what it was last told to.
        started: When, by the monotonic clock.
    """

    connection: Connection[Message, Message]
    process: subprocess.Popen[bytes] | None
    number: int = 0
    serves: Served | None = None
    prepared: Served | None = None
    is_loading: bool = False
    address: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """The number of its process, which may be this one."""
        return self.process.pid if self.process else os.getpid()

    def send(self, *message: object) -> None:
        """Say something to it; nothing if it is dead, which is noticed when it is listened to."""
        try:
            self.connection.send(message)
        except OSError:
            return


class Crew:
    """All workers of a server.

    One alone is a thread of this process. Of several each is a process, so that each has a core.

    Args:
        store: The store.
        config: How each serves, and how many there are.
        exporter: Serves their metrics; None if nothing does.

    Attributes:
        workers: Those that live.
        died_early: How many have died, one after the other, soon after their start.
        is_ending: Whether they end because they were told to.
    """

    def __init__(self, store: Path, config: ServerConfig, exporter: Exporter | None = None) -> None:
        self._exporter = exporter
        self._store = store
        self._config = config
        self._port: ReservedPort | None = None
        self._starts: list[float] = []  # when some are to be started, by the monotonic clock
        self.workers: list[Worker] = []
        self.died_early = 0
        self.is_ending = False

    def open_port(self) -> None:
        """Keep the port for the workers, so that it is one and the same as they come and go.

        Raises:
            PortError: The address cannot be listened on.
        """
        config = self._config
        if config.workers > 1:
            self._port = ReservedPort(config.host, config.port, config.address())
            self._config = replace(config, port=self._port.port, reuse_port=True)

    def start(self) -> None:
        """Start all.

        Raises:
            WorkerError: The system starts none, or not so many.
        """
        for _ in range(self._config.workers):
            try:
                self._start()
            except OSError as error:
                raise WorkerError(f"a worker cannot be started: {error.strerror}") from error

    def start_due(self) -> None:
        """Start those anew whose time has come."""
        now = time.monotonic()
        for due in [start for start in self._starts if start <= now]:
            self._starts.remove(due)
            try:
                self._start()
            except OSError as error:  # the system has no process or no descriptor left
                _log.error("a worker cannot be started: %s", error.strerror)
                self._starts.append(now + _LONGEST_PAUSE)

    @property
    def next_start(self) -> float | None:
        """When the next is to be started, by the monotonic clock; None if all are."""
        return min(self._starts, default=None)

    @property
    def connections(self) -> list[Connection[Message, Message]]:
        """Those to all workers."""
        return [worker.connection for worker in self.workers]

    def messages(self) -> Iterator[tuple[Worker, Message]]:
        """Give what the workers have said, and let those go that have ended.

        Raises:
            WorkerError: The only one has ended, which it was not told to.
        """
        for worker in list(self.workers):
            try:
                # Whoever hears one message may dismiss the worker.
                while worker in self.workers and worker.connection.poll():
                    yield worker, worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)

    def tell(self, *message: object) -> None:
        """Say something to all."""
        for worker in self.workers:
            worker.send(*message)

    def drop(self) -> None:
        """Have all forget what they have loaded and do not serve."""
        for worker in self.workers:
            worker.prepared = None
        self.tell("drop")

    def dismiss(self, worker: Worker) -> None:
        """End a worker, and start another later."""
        # Told, for one that merely loses its supervisor takes the server to be at its end.
        worker.send("stop", 0.0)
        self._bury(worker)

    def end(self) -> None:
        """Wait for all to end, and kill those that do not."""
        self.is_ending = True
        self._starts.clear()
        for worker in self.workers:
            worker.connection.close()  # which ends it
        deadline = time.monotonic() + _END_SECONDS
        for worker in self.workers:
            if worker.process is not None:
                _end(worker.process, max(0.1, deadline - time.monotonic()))
        self.workers.clear()
        if self._port is not None:
            self._port.close()

    def _start(self) -> None:
        ours, its = Pipe()
        process = None
        number = min(set(range(self._config.workers)) - {worker.number for worker in self.workers})
        if self._config.workers == 1:
            from kinrec.server.processes.worker import work_as_thread  # noqa: PLC0415 - imports grpc

            arguments = (self._store, self._config, its)
            threading.Thread(
                target=work_as_thread, args=arguments, name="worker", daemon=True
            ).start()
        else:
            # -P: nothing is imported from the directory that the server was started in.
            command = [
                sys.executable,
                "-P",
                "-m",
                "kinrec.server.processes.worker",
                str(its.fileno()),
            ]
            its_own = self._exporter.environment_of(number) if self._exporter else {}
            process = subprocess.Popen(  # noqa: S603 - our own
                command, pass_fds=[its.fileno()], env=os.environ | its_own
            )
            its.close()
            if self._exporter is not None:
                self._exporter.note_worker(number, process.pid)
        worker = Worker(ours, process, number)
        worker.send(self._store, self._config, self._core_of(number))
        self.workers.append(worker)

    def _core_of(self, number: int) -> int | None:
        """Give the core that a worker keeps to; None if it may use all.

        Where there is a worker for each core, its threads wait for each other less on one core: on
        several they contend for the interpreter's lock, which can take as much time as their work.
        """
        affinity = getattr(os, "sched_getaffinity", None)  # not on every system
        cores = sorted(affinity(0)) if affinity else []
        return cores[number] if len(cores) == self._config.workers > 1 else None

    def _bury(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.connection.close()
        if worker.process is not None:
            _end(worker.process, _END_SECONDS)
        if self._exporter is not None:
            self._exporter.note_death(worker.number)
        if self.is_ending:
            return
        if worker.process is None:
            raise WorkerError("the worker has ended; the log says why")
        _log.error("worker %d has ended: %s", worker.pid, _how(worker.process))
        early = time.monotonic() - worker.started < _SOON
        self.died_early = self.died_early + 1 if early else 0
        pause = min(_PAUSE * 2 ** (self.died_early - 1), _LONGEST_PAUSE) if early else 0.0
        self._starts.append(time.monotonic() + pause)


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
