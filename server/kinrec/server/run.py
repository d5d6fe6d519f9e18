"""Runs a server as a process: load, listen, say so, and drain on a signal."""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import gc
import logging
import queue
import signal
import sys
import time
from typing import TYPE_CHECKING

from kinrec.engine import BundleError, Engine
from kinrec.engine.store import MANIFEST, find_bundle, list_versions
from kinrec.server.app import RecommenderServer
from kinrec.server.engines import Engines
from kinrec.server.parity import require_parity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kinrec.server.config import ServerConfig

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_M_ARENA_MAX = -8  # of malloc.h
_POLL_SECONDS = 0.05

_log = logging.getLogger(__name__)


def run(store: Path, version: str | None, config: ServerConfig) -> None:
    """Serve a bundle until SIGTERM or SIGINT, then drain; a second signal cuts the drain short.

    When calls can come, one line on standard output says what is served and where:
    ``kinrec: serving NAME VERSION on HOST:PORT``.

    Args:
        store: The store, or the bundle itself.
        version: The version; None for the newest.
        config: How to serve.

    Raises:
        BundleError: The bundle cannot be used, or must have passed ``kinrec verify`` and has not.
        PortError: The address cannot be listened on.
    """
    _use_one_heap()
    # A queue of this kind may be put to from a signal handler; an event's lock may not be taken.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in _SIGNALS:
        signal.signal(number, lambda received, _frame: signals.put(received))
    engine = _load(find_bundle(store, version), config)
    variants = _variants(engine, store, config)
    engines = _with_previous(engine, store, config, variants)
    if not signals.empty():
        return
    # What is loaded lives as long as the process: no collection need look at it again.
    gc.collect()
    gc.freeze()
    server = RecommenderServer(engines, config)
    server.start()
    sys.stdout.write(f"kinrec: serving {engine.name} {engine.version} on {server.address}\n")
    sys.stdout.flush()
    if not config.state_keys.shared:
        _log.warning("carried states are signed with a key that no other server has")
    _log.info("%s received: draining", signal.Signals(signals.get()).name)
    _drain(server, config, signals)


def _use_one_heap() -> None:
    """Let all threads allocate from one heap, where the C library is glibc.

    With a heap for each thread, what large requests took stays in every heap that ever saw one: under
    hostile calls the process grows to three times what it needs.
    """
    with contextlib.suppress(AttributeError):  # of another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _load(bundle: Path, config: ServerConfig) -> Engine:
    engine = Engine.load(bundle)
    if config.require_parity:
        require_parity(bundle, engine.fingerprint)
    return engine


def _variants(engine: Engine, store: Path, config: ServerConfig) -> dict[str, Engine]:
    """Load what the variants of the experiment answer with, each version once.

    Raises:
        BundleError: A version cannot be used.
    """
    if config.experiment is None:
        return {}
    versions = {"": engine, engine.version: engine}
    found = {}
    for variant in config.experiment.variants:
        if variant.version not in versions:
            bundle = find_bundle(store, variant.version)
            versions[variant.version] = _load(bundle, config)
        its = versions[variant.version]
        found[variant.name] = its.with_weights(variant.weights) if variant.weights else its
    return found


def _with_previous(
    engine: Engine,
    store: Path,
    config: ServerConfig,
    variants: Mapping[str, Engine] | None = None,
) -> Engines:
    """Load the version before as well, if there is one that can still be asked for."""

    def engines(previous: Engine | None = None) -> Engines:
        experiment = config.experiment if variants else None
        return Engines(engine, previous, until, experiment=experiment, variants=variants)

    until = (
        engine.manifest.create_time.ToDatetime(dt.UTC).timestamp() + config.previous_hours * 3600.0
    )
    is_store = not (store / MANIFEST).is_file()
    older = [v for v in list_versions(store) if v < engine.version] if is_store else []
    if not (older and time.time() < until and config.state_keys.shared):
        return engines()
    try:
        previous = _load(store / older[-1], config)
    except BundleError as error:
        _log.warning("states of version %s are refused: %s", older[-1], error)
        return engines()
    _log.info("version %s answers its states until %s", previous.version, time.ctime(until))
    return engines(previous)


def _drain(
    server: RecommenderServer, config: ServerConfig, signals: queue.SimpleQueue[int]
) -> None:
    """Tell the health watchers, wait until balancers have seen it, let the calls in flight end."""
    server.announce_drain()
    try:
        signals.get(timeout=config.drain_wait)
        grace = 0.0
    except queue.Empty:
        grace = config.grace
    stopped = server.stop(grace)
    while not stopped.wait(_POLL_SECONDS):
        if not signals.empty():
            stopped = server.stop(0.0)
            stopped.wait()
    _log.info("drained")
