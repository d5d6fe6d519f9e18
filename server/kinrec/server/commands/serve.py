"""`kinrec serve`: answer calls with a bundle."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from kinrec.server.commands._serve_arguments import KEY_VARIABLE, add_arguments
from kinrec.server.observability.observing import Observing

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from kinrec.server.experiments import Experiment
    from kinrec.server.security.tls import TlsFiles
    from kinrec.server.states import StateKeys

__all__ = ["KEY_VARIABLE", "add_arguments", "run"]

_MOST_SLOW_MS = 3_600_000
# Read by gRPC's core when it starts.
_EXPERIMENTS = "GRPC_EXPERIMENTS"
_LISTENER = "event_engine_listener"


def run(args: argparse.Namespace) -> int:
    """Serve until a signal.

    Returns:
        0 after a drain; 1 if the workers end by themselves; 2 if the bundle, a flag or
        the port cannot be used, with one line on standard error.
    """
    _set_environment()
    # Imported here so that --help does not wait for grpc and onnxruntime.
    from kinrec.engine import BundleError  # noqa: PLC0415
    from kinrec.server.config import ServerConfig  # noqa: PLC0415
    from kinrec.server.observability import logs  # noqa: PLC0415
    from kinrec.server.port import PortError  # noqa: PLC0415
    from kinrec.server.processes.crew import WorkerError  # noqa: PLC0415
    from kinrec.server.processes.supervisor import Supervisor  # noqa: PLC0415
    from kinrec.server.processes.versions import Versions  # noqa: PLC0415
    from kinrec.server.security.tls import check_exposure  # noqa: PLC0415
    from kinrec.server.security.watched import FlagFileError  # noqa: PLC0415

    try:
        observing = _observing(args)
        logs.configure(observing)
        config = ServerConfig(
            host=args.host,
            port=args.port,
            workers=args.workers,
            reload_seconds=args.reload_seconds,
            admin_port=args.admin_port,
            concurrency=args.concurrency,
            max_wait=args.max_wait,
            drain_wait=args.drain_wait,
            grace=args.grace,
            previous_hours=args.previous_hours,
            require_parity=args.require_parity,
            observing=observing,
            max_streams=args.max_streams,
            min_voters=args.min_voters,
            experiment=_experiment(args.experiment),
            state_keys=_state_keys(args.state_key_file),
            max_connections=args.max_connections,
            max_concurrent_streams=args.max_concurrent_streams,
            max_watches=args.max_watches,
            max_connection_age=args.max_connection_age,
            tls=_tls(args),
            insecure=args.insecure,
            tokens=_tokens(args.tokens),
            reflection=args.reflection,
        )
        check_exposure(config)
    except (ValueError, PortError) as error:
        return _refuse(_by_flag(str(error), args))
    try:
        _check_version(args)
        Supervisor(Versions(args.store, args.version), config).run()
    except (BundleError, PortError, FlagFileError) as error:
        return _refuse(str(error))
    except WorkerError as error:
        sys.stderr.write(f"kinrec serve: {error}\n")
        return 1
    return 0


def _set_environment() -> None:
    """Set what libraries read when they are imported. The workers' processes inherit it."""
    # One process per core: threads of numpy's own would take turns on that core and spin meanwhile.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[_EXPERIMENTS] = _experiments(os.environ.get(_EXPERIMENTS, ""))


def _experiments(chosen: str) -> str:
    """Have gRPC read from its connections in the thread that waits for calls.

    Of itself it has threads for that, since grpcio 1.80. On one core each of them wakes the next, which
    takes a third of an empty call. Where gRPC has forgotten the name it says so and does nothing else.

    Args:
        chosen: What the environment says of gRPC's experiments, which is kept.
    """
    names = [name for name in chosen.split(",") if name]
    if not any(name.removeprefix("-") == _LISTENER for name in names):
        names.append(f"-{_LISTENER}")
    return ",".join(names)


def _observing(args: argparse.Namespace) -> Observing:
    slow = args.slow_call_ms
    if slow is not None and not 0 <= slow <= _MOST_SLOW_MS:
        raise ValueError(f"slow_call_ms: must be from 0 to {_MOST_SLOW_MS:,}, not {slow:g}")
    return Observing(
        metrics_address=args.metrics_address,
        log_format=args.log_format,
        log_level=args.log_level,
        log_calls=args.log_calls,
        slow_call=None if slow is None else slow / 1e3,
        log_personal_data=args.log_personal_data,
    )


def _check_version(args: argparse.Namespace) -> None:
    """Refuse a version that the store does not have.

    Raises:
        BundleError: It is none. The text is one line that names the flag.
    """
    from kinrec.engine import BundleError  # noqa: PLC0415 - as in run
    from kinrec.engine.store import find_bundle  # noqa: PLC0415

    if args.version is None:
        return
    try:
        find_bundle(args.store, args.version)
    except BundleError as error:
        raise BundleError(f"--version {args.version}: {error}") from error


def _tls(args: argparse.Namespace) -> TlsFiles | None:
    """Check the files of the certificate, if there is one.

    Raises:
        ValueError: They cannot be used. The text is one line that names the flag.
    """
    from kinrec.server.security.tls import TlsFiles  # noqa: PLC0415

    if args.tls_cert is None:
        for flag in ("tls_key", "tls_client_ca"):
            if getattr(args, flag) is not None:
                raise ValueError(f"--{flag.replace('_', '-')}: needs --tls-cert")
        return None
    if args.tls_key is None:
        raise ValueError("--tls-cert: needs --tls-key")
    files = TlsFiles(args.tls_cert, args.tls_key, args.tls_client_ca)
    files.read()
    return files


def _tokens(path: Path | None) -> Path | None:
    """Check the file of tokens, if there is one.

    Raises:
        ValueError: It cannot be used. The text is one line that names the flag.
    """
    from kinrec.server.security.tokens import read_tokens  # noqa: PLC0415

    if path is not None:
        read_tokens(path)
    return path


def _experiment(path: Path | None) -> Experiment | None:
    """Read the experiment.

    Raises:
        ValueError: It cannot be used. The text is one line that names the file.
    """
    from kinrec.server.experiments import read_experiment  # noqa: PLC0415

    if path is None:
        return None
    try:
        return read_experiment(path)
    except OSError as error:
        raise ValueError(f"--experiment {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--experiment {path}: is not text") from error
    except ValueError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"--experiment {path}: {text}") from error


def _state_keys(path: Path | None) -> StateKeys:
    """Find the keys: of the file, else of the environment, else one of this process alone.

    Raises:
        ValueError: They cannot be used. The text is one line that names where they are.
    """
    from kinrec.server.states import StateKeys  # noqa: PLC0415

    where = KEY_VARIABLE if path is None else f"--state-key-file {path}"
    try:
        text = os.environ.get(KEY_VARIABLE) if path is None else path.read_text("utf-8")
        return StateKeys.random() if text is None else StateKeys.parse(text)
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: is not text") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _by_flag(error: str, args: argparse.Namespace) -> str:
    """Name the flag where an error names the field that it sets."""
    field, colon, rule = error.partition(":")
    return f"--{field.replace('_', '-')}:{rule}" if colon and field in vars(args) else error


def _refuse(error: str) -> int:
    sys.stderr.write(f"kinrec serve: {error}\n")
    return 2
