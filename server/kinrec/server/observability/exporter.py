"""Serves the metrics of a server over HTTP, those of all its workers under one address.

For the process that starts the workers: it imports neither grpc nor the engine.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from kinrec.server.observability.observing import split_address
from kinrec.server.observability.value_files import (
    DIRECTORY_VARIABLE,
    Files,
    empty_live,
    make_files,
    places,
)
from kinrec.server.port import PortError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import Metric

_OUTCOMES = _SERVED, _REFUSED = "ok", "refused"

_log = logging.getLogger(__name__)


class Exporter:
    """Serves metrics until it is closed. Safe to call from one thread.

    It is to be made before any worker, and before anything of prometheus_client is imported: the
    library decides by the environment whether a process keeps its values for itself or in files of a
    directory that this makes.

    Args:
        address: ``host:port``, port 0 for a free one.
        workers: How many processes answer calls. One answers in this process.

    Raises:
        PortError: The address cannot be listened on, or there is no place for the values.
    """

    def __init__(self, address: str, *, workers: int) -> None:
        host, port = split_address(address)
        self._files: Files | None = None
        self._pids = {"supervisor": os.getpid()}
        os.environ.pop(DIRECTORY_VARIABLE, None)
        if workers > 1:
            self._files = _new_files(workers)
            os.environ[DIRECTORY_VARIABLE] = self._files.directory
        self._server, self._thread = self._listen(host, port)

    def _listen(self, host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
        from prometheus_client import (  # noqa: PLC0415 - see the class
            REGISTRY,
            CollectorRegistry,
            start_http_server,
        )
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        registry = REGISTRY
        if self._files is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._files.directory)  # type: ignore[no-untyped-call]
            registry.register(_Processes(self._pids))
        from kinrec.server.observability.families import RELOADS  # noqa: PLC0415

        for outcome in _OUTCOMES:
            RELOADS.labels(outcome)
        try:
            return start_http_server(port, host, registry)
        except OSError as error:
            self._remove_files()
            raise PortError(
                f"--metrics-address: cannot listen on {_joined(host, port)}: {error.strerror}"
            ) from error

    @property
    def address(self) -> str:
        """The address listened on, ``host:port``."""
        return _joined(str(self._server.server_address[0]), self._server.server_port)

    def environment_of(self, number: int) -> dict[str, str]:
        """Give what a worker's process is to have in its environment beside what this one has.

        Args:
            number: Of the worker: from 0, and at any time another than those of all that live.
        """
        from kinrec.server.observability.families import WORKER_VARIABLE  # noqa: PLC0415 - see the class

        return {WORKER_VARIABLE: str(number)}

    def note_worker(self, number: int, pid: int) -> None:
        """Note that a worker has been started."""
        self._pids[str(number)] = pid

    def note_death(self, number: int) -> None:
        """Note that a worker has ended: what it counted stays, what it was at does not."""
        self._pids.pop(str(number), None)
        if self._files is not None:
            try:
                empty_live(self._files.directory, str(number))
            except OSError as error:
                _log.warning("metrics of a worker that has ended: %s", error.strerror)

    def note_reload(self, *, is_served: bool) -> None:
        """Note that another version is served, or was refused."""
        from kinrec.server.observability.families import RELOADS  # noqa: PLC0415 - see the class

        RELOADS.labels(_SERVED if is_served else _REFUSED).inc()

    def close(self) -> None:
        """Listen no more, and remove the directory. All workers must have ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._remove_files()

    def _remove_files(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None
            os.environ.pop(DIRECTORY_VARIABLE, None)


def _new_files(workers: int) -> Files:
    """Make the files for the values of this process and of workers.

    Raises:
        PortError: There is no room for one.
    """
    names = [str(os.getpid()), *map(str, range(workers))]
    try:
        return make_files(names, places())
    except OSError as error:
        raise PortError(
            f"--metrics-address: no room for the metrics of {workers} workers in "
            f"{' or '.join(places())}: {error.strerror}"
        ) from error


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Processes:
    """What the library tells of a process, of each of several.

    Args:
        pids: The processes by name; may change.
    """

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """Give the metrics, labelled with the names."""
        from prometheus_client import Metric, ProcessCollector  # noqa: PLC0415 - see above

        found: dict[str, Metric] = {}
        for name, pid in list(self._pids.items()):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                merged = found.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    merged.add_sample(sample.name, {"worker": name}, sample.value)
        return found.values()
