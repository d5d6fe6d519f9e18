"""A worker: listens, answers, and does what its supervisor says.

The two send each other tuples of a word and what belongs to it. The supervisor says:

    prepare SERVED VERIFIED   load what is to be served next, beside what is served
    switch                    serve what was prepared
    drop                      forget what was prepared
    drain                     say NOT_SERVING and go on answering
    stop GRACE                refuse new calls, give those in flight so many seconds, and end; said
                              again, end them

A worker says, to ``prepare``, ``prepared SERVED`` or ``refused SERVED REASON``; to the first
``switch``, ``serving ADDRESS`` or ``cannot_serve REASON``, and to each other ``serving ADDRESS``. When the
other end of the connection goes away it drains and ends by itself.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from kinrec.engine import BundleError
from kinrec.engine.memory import use_one_heap
from kinrec.server.app import RecommenderServer
from kinrec.server.observability import logs
from kinrec.server.observability.value_files import DIRECTORY_VARIABLE, remove_files
from kinrec.server.port import PortError
from kinrec.server.processes.loading import Loader
from kinrec.server.security.watched import FlagFileError

if TYPE_CHECKING:
    from pathlib import Path

    from kinrec.server.config import ServerConfig
    from kinrec.server.engines import Engines
    from kinrec.server.processes.loading import Served

Message = tuple[Any, ...]

_POLL_SECONDS = 0.05
# After so many new objects Python looks for rings of them, which hardly a call leaves, among all that the
# calls in flight hold. By itself it does so after a few hundred.
_YOUNG_OBJECTS = 5_000

_log = logging.getLogger(
    "kinrec.server.processes.worker"
)  # which is __main__ in a process of its own


def work_as_thread(
    store: Path, config: ServerConfig, supervisor: Connection[Message, Message]
) -> None:
    """Be the only worker, in a thread of the supervisor's process."""
    with supervisor:
        supervisor.recv()  # what a process needs to be told
        _work(store, config, supervisor)


def main() -> None:
    """Be a worker in a process of its own, whose argument is the file descriptor of the connection."""
    # A terminal and some service managers signal all processes; the supervisor says what to do.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as supervisor:
        store, config, core = supervisor.recv()
        if core is not None:
            os.sched_setaffinity(0, {core})
        logs.configure(config.observing)
        _work(store, config, supervisor)


def _work(store: Path, config: ServerConfig, supervisor: Connection[Message, Message]) -> None:
    """Obey until the supervisor says to end, or is gone."""
    use_one_heap()
    worker = _Worker(store, config, supervisor)
    try:
        while worker.obey(supervisor.recv()):
            pass
    except (EOFError, OSError):
        worker.end_alone()


class _Worker:
    def __init__(
        self, store: Path, config: ServerConfig, supervisor: Connection[Message, Message]
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._loader = Loader(store, config)
        self._server: RecommenderServer | None = None
        self._prepared: Engines | None = None

    def obey(self, message: Message) -> bool:
        """Do what a message says; return whether there is more to come."""
        match message:
            case ("prepare", served, is_verified):
                self._prepare(served, is_verified=is_verified)
            case ("switch",):
                return self._switch()
            case ("drop",):
                self._drop()
            case ("drain",):
                if self._server is not None:
                    self._server.announce_drain()
            case ("stop", grace):
                self._stop(grace)
                return False
        return True

    def end_alone(self) -> None:
        """Drain and end without a supervisor."""
        directory = os.environ.get(DIRECTORY_VARIABLE)
        if directory and self._config.observing.metrics_address:  # which nobody serves any more
            remove_files(directory)
        if self._server is not None:
            _log.warning("the supervisor is gone: draining")
            self._server.announce_drain()
            time.sleep(self._config.drain_wait)
            self._server.stop(self._config.grace).wait()

    def _stop(self, grace: float) -> None:
        """Refuse new calls, and wait for those in flight, until the supervisor says not to."""
        if self._server is None:
            return
        stopped = self._server.stop(grace)
        while not stopped.wait(_POLL_SECONDS):
            if self._supervisor.poll():
                with contextlib.suppress(EOFError, OSError):
                    self._supervisor.recv()
                self._server.stop(0.0).wait()

    def _prepare(self, served: Served, *, is_verified: bool) -> None:
        try:
            self._prepared = self._loader.load(served, is_verified=is_verified)
        except BundleError as error:
            self._supervisor.send(("refused", served, str(error)))
        except Exception:  # noqa: BLE001 - the worker goes on serving what it serves
            _log.exception("%s cannot be loaded", served.bundle)
            self._supervisor.send(("refused", served, f"{served.bundle}: cannot be loaded"))
        else:
            if self._server is not None:
                self._server.prepare(self._prepared)
            self._supervisor.send(("prepared", served))

    def _switch(self) -> bool:
        if self._prepared is None:
            raise RuntimeError("nothing was prepared")
        engines, self._prepared = self._prepared, None
        try:
            self._serve(engines)
        except (PortError, FlagFileError) as error:
            self._supervisor.send(("cannot_serve", str(error)))
            return False
        return True

    def _serve(self, engines: Engines) -> None:
        if self._server is None:
            self._server = RecommenderServer(engines, self._config)
            self._server.start()
        else:
            self._server.switch(engines)
        self._supervisor.send(("serving", self._server.address))
        # What is loaded lives long: no collection need look at it again. What was served before is
        # looked at once more.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)

    def _drop(self) -> None:
        self._prepared = None
        if self._server is not None:
            self._server.prepare(None)


if __name__ == "__main__":
    main()
