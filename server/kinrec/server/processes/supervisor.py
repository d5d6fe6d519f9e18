"""Keeps workers at work: starts them, starts them anew when they die, and has them serve one version.

The supervisor answers no calls, so what takes down a worker takes down nothing else. It decides which
version is served. All workers load the next one beside the one they serve, and only when all have
done so are they told to switch: until then each answers the states of both, and what one of them
cannot load is served by none.
"""

from __future__ import annotations

import datetime as dt
import logging
import queue
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from kinrec.engine import BundleError
from kinrec.engine.model import check_bundle
from kinrec.server.observability.exporter import Exporter
from kinrec.server.port import PortError
from kinrec.server.processes.admin import AdminServer
from kinrec.server.processes.crew import Crew, WorkerError
from kinrec.server.processes.loading import Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kinrec.server.config import ServerConfig
    from kinrec.server.processes.admin import Answer
    from kinrec.server.processes.crew import Worker
    from kinrec.server.processes.versions import Versions

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ENOUGH = 3  # workers that may die before anything is served

_log = logging.getLogger(__name__)


class Supervisor:
    """Serves a store until it is told to stop.

    Args:
        versions: The versions to choose from.
        config: How to serve.
    """

    def __init__(self, versions: Versions, config: ServerConfig) -> None:
        self._versions = versions
        self._config = config
        self._exporter: Exporter | None = None
        address = config.observing.metrics_address
        if address:
            self._exporter = Exporter(address, workers=config.workers)
        self._crew = Crew(versions.store, config, self._exporter)
        self._served: Served | None = None
        self._target: Served | None = None  # to be served when all have loaded it
        self._name = ""
        self._checking = False
        self._refused: dict[Path, str] = {}
        self._next_look = 0.0
        self._said = ""  # the version of which it was said that all workers serve it
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # of other threads
        self._waiting: list[Callable[[Answer], None]] = []  # for a reload to end
        self._admin: AdminServer | None = None
        self._alarm, self._bell = socket.socketpair()
        for end in (self._alarm, self._bell):
            end.settimeout(0)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal cuts the drain short.

        SIGHUP has it look for another version at once. When calls can come, one line on standard
        output says what is served and where: ``kinrec: serving NAME VERSION on HOST:PORT``.

        Raises:
            BundleError: No version can be served.
            PortError: The address cannot be listened on.
            WorkerError: Workers die before they serve, or cannot be started.
        """
        for number in _SIGNALS:
            # A queue of this kind may be put to from a signal handler; a lock may not be taken.
            signal.signal(number, lambda received, _frame: self._signals.put(received))
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        try:
            first = self._versions.wanted()[0]
            if self._config.admin_port is not None:
                calls = {"POST /reload": self._reload, "GET /status": self._tell_status}
                self._admin = AdminServer(self._config.admin_port, calls)
            self._crew.open_port()
            self._crew.start()
            self._check(first)
            while not self._is_told_to_stop():
                self._do_what_is_due()
                self._wait()
            self._drain()
        finally:
            if self._admin is not None:
                self._admin.close()
            self._crew.end()
            if self._exporter is not None:
                self._exporter.close()
            # At its end Python gives its handlers back to the system's, which end the process by a signal.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _reload(self, then: Callable[[Answer], None]) -> None:
        """Look for another version soon, those included that were refused. For other threads."""

        def look() -> None:
            self._waiting.append(then)
            self._look_again()

        self._call(look)

    def _tell_status(self, then: Callable[[Answer], None]) -> None:
        """Say what is served. For other threads."""
        self._call(lambda: then(self._status()))

    def _status(self) -> Answer:
        workers = [
            {"pid": worker.pid, "version": worker.serves.bundle.name if worker.serves else ""}
            for worker in self._crew.workers
        ]
        return {"version": self._version, "loading": self._is_loading, "workers": workers}

    @property
    def _version(self) -> str:
        return self._served.bundle.name if self._served is not None else ""

    @property
    def _is_loading(self) -> bool:
        return self._checking or self._target is not None

    # What is served.

    def _check(self, bundle: Path) -> None:
        """Compare a bundle's files with its manifest beside all else, once for all workers."""
        self._checking = True

        def check() -> None:
            try:
                manifest = check_bundle(bundle)
            except BundleError as error:
                reason = str(error)
                self._call(lambda: self._refuse(bundle, reason))
            except Exception:  # noqa: BLE001 - what is served goes on
                _log.exception("%s cannot be checked", bundle)
                self._call(lambda: self._refuse(bundle, f"{bundle}: cannot be checked"))
            else:
                made = manifest.create_time.ToDatetime(dt.UTC).timestamp()
                self._call(lambda: self._aim(bundle, manifest.name, made))

        threading.Thread(target=check, name="check", daemon=True).start()

    def _aim(self, bundle: Path, name: str, made: float) -> None:
        """Have a bundle loaded that is whole.

        Args:
            bundle: The bundle.
            name: The model's name.
            made: When it was made, in seconds since 1970 UTC.
        """
        self._checking = False
        self._name = name
        hours = self._config.previous_hours * 3600.0
        if self._served is not None:
            self._target = Served(bundle, self._served.bundle, time.time() + hours)
        elif self._config.state_keys.shared:
            # States of the version before may come from other replicas, or from before a restart.
            self._target = Served(bundle, self._versions.before(bundle), made + hours)
        else:
            self._target = Served(bundle)

    def _refuse(self, bundle: Path, reason: str) -> None:
        """Go on without a bundle that cannot be served.

        Raises:
            BundleError: There is nothing else to serve, and never was.
        """
        self._checking, self._target = False, None
        self._versions.refuse(bundle)
        self._note_reload(is_served=False)
        self._refused[bundle] = reason
        self._crew.drop()
        if self._served is not None:
            _log.error("refused, the version before goes on: %s", reason)
            self._end_reload(reason)
            return
        others = self._versions.wanted()
        if not others:
            raise BundleError(next(iter(self._refused.values())))
        _log.error("refused, the version before is tried: %s", reason)
        self._check(others[0])

    def _look(self) -> None:
        """See whether there is another version to serve."""
        self._next_look = time.monotonic() + self._config.reload_seconds
        if self._served is None or self._is_loading:
            return
        try:
            following = self._versions.following(self._served.bundle)
        except (BundleError, OSError) as error:  # the store has gone, or the pin names nothing
            reason = str(error)
            if self._refused.get(self._versions.store) != reason:
                _log.error("%s", reason)
            self._refused[self._versions.store] = reason
            self._end_reload(reason)
            return
        self._refused.pop(self._versions.store, None)
        if following is None:
            self._end_reload("")
        else:
            _log.info("loading version %s", following.name)
            self._check(following)

    def _look_again(self) -> None:
        self._versions.forgive()
        self._look()

    def _end_reload(self, refused: str) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then({"version": self._version, "refused": refused})

    def _note_reload(self, *, is_served: bool) -> None:
        if self._exporter is not None:
            self._exporter.note_reload(is_served=is_served)

    # What the workers do.

    def _do_what_is_due(self) -> None:
        while not self._todo.empty():
            self._todo.get()()
        for worker, message in self._crew.messages():
            self._hear(worker, message)
        if self._crew.died_early >= _ENOUGH and self._served is None:
            raise WorkerError("workers end before they can serve; the log says why")
        self._crew.start_due()
        if time.monotonic() >= self._next_look and self._looks:
            self._look()
        self._advance()

    def _hear(self, worker: Worker, message: tuple[object, ...]) -> None:
        match message:
            case ("prepared", Served() as served):
                worker.is_loading = False
                # What was given up while it was loaded is not served any more.
                worker.prepared = served if served in (self._target, self._served) else None
            case ("refused", Served() as served, str(reason)):
                worker.is_loading = False
                if served == self._target:
                    self._refuse(served.bundle, reason)
                elif served == self._served:
                    _log.error("worker %d cannot load what others serve: %s", worker.pid, reason)
                    self._crew.dismiss(worker)
            case ("cannot_serve", str(reason)):
                if not self._said:
                    raise PortError(reason)
                # It ends, and is started anew: the port or a file may be as it should be by then.
                _log.error("worker %d cannot serve: %s", worker.pid, reason)
            case ("serving", str(address)):
                worker.address = address
                self._note_serving(address)

    def _advance(self) -> None:
        """Tell each worker what comes next for it."""
        workers = self._crew.workers
        at_work = [worker for worker in workers if worker.serves == self._served]
        if (
            self._target is not None
            and at_work
            and all(worker.prepared == self._target for worker in at_work)
        ):
            self._served, self._target = self._target, None
        for worker in workers:
            if worker.is_loading:
                continue
            wanted = self._served if worker.serves != self._served else self._target
            if wanted is None:
                continue
            if worker.prepared != wanted:
                worker.is_loading = True
                # Only what is new has been checked a moment ago.
                worker.send("prepare", wanted, wanted == self._target)
            elif wanted == self._served:
                worker.serves, worker.prepared, worker.address = wanted, None, ""
                worker.send("switch")

    def _note_serving(self, address: str) -> None:
        """Say so when all workers serve what they were told to."""
        if self._served is None or not all(
            worker.address and worker.serves == self._served for worker in self._crew.workers
        ):
            return
        version = self._served.bundle.name
        said, self._said = self._said, version
        if said:
            _log.info("serving version %s", version)
            if said != version:  # else a worker is back
                self._note_reload(is_served=True)
                self._end_reload("")
            return
        # Not before: a start that comes to nothing has one line to say, the reason.
        if self._exporter is not None:
            _log.info("metrics on http://%s/metrics", self._exporter.address)
        if self._admin is not None:
            _log.info("admin calls on %s", self._admin.address)
        sys.stdout.write(f"kinrec: serving {self._name} {version} on {address}\n")
        sys.stdout.flush()
        if not self._config.state_keys.shared:
            _log.warning("carried states are signed with a key that no other server has")

    # Waiting and ending.

    @property
    def _looks(self) -> bool:
        return self._config.reload_seconds > 0 and self._versions.may_change

    def _call(self, do: Callable[[], None]) -> None:
        """Have something done in the supervisor's thread."""
        self._todo.put(do)
        self._ring()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except BlockingIOError:  # it rings already
            return

    def _wait(self, seconds: float | None = None) -> None:
        """Wait until something may be due, at most so many seconds."""
        times = [self._crew.next_start]
        if self._looks and self._served is not None:
            times.append(self._next_look)
        due = [max(0.0, at - time.monotonic()) for at in times if at is not None]
        if seconds is not None:
            due.append(seconds)
        wait([self._alarm, *self._crew.connections], min(due, default=None))
        try:
            self._alarm.recv(4096)
        except BlockingIOError:
            return

    def _is_told_to_stop(self) -> bool:
        while not self._signals.empty():
            number = self._signals.get()
            if number != signal.SIGHUP:
                _log.info("%s received: draining", signal.Signals(number).name)
                return True
            self._look_again()
        return False

    def _drain(self) -> None:
        """Tell the health watchers, wait until balancers have seen it, let the calls in flight end."""
        self._crew.is_ending = True
        self._crew.tell("drain")
        grace = self._config.grace
        if self._sleep(self._config.drain_wait):
            grace = 0.0
        self._crew.tell("stop", grace)
        if self._sleep(grace, until_ended=True):
            self._crew.tell("stop", 0.0)
        self._crew.end()
        _log.info("drained")

    def _sleep(self, seconds: float, *, until_ended: bool = False) -> bool:
        """Wait so long, or until all workers have ended; return whether a signal ended the wait."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._signals.empty():
                self._signals.get()
                return True
            for _ in self._crew.messages():
                pass
            if until_ended and not self._crew.workers:
                return False
            self._wait(left)
        return False
