"""`kinrec serve`: answer calls with a bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.server.observability.observing import LOG_FORMATS, LOG_LEVELS, Observing

if TYPE_CHECKING:
    import argparse

    from kinrec.server.experiments import Experiment
    from kinrec.server.security.tls import TlsFiles
    from kinrec.server.states import StateKeys

KEY_VARIABLE = "KINREC_STATE_KEY"
_MOST_SLOW_MS = 3_600_000
# Read by gRPC's core when it starts.
_EXPERIMENTS = "GRPC_EXPERIMENTS"
_LISTENER = "event_engine_listener"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("store", type=Path, help="a store, or one bundle of it")
    parser.add_argument("--version", help="the version to serve (default: the newest)")
    parser.add_argument("--host", default="127.0.0.1", help="listen on this address (%(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=50051,
        help="listen on this port; 0 takes a free one (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=default_workers(),
        metavar="N",
        help="processes that answer, each with all else that is said here (default: the cores, "
        "%(default)s)",
    )
    parser.add_argument(
        "--reload-seconds",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how often the store is looked at for a version to serve instead; 0 for never, but "
        "after SIGHUP (%(default)s)",
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        metavar="PORT",
        help="answer POST /reload and GET /status over HTTP on 127.0.0.1 (default: do not)",
    )
    parser.add_argument(
        "--threads", type=int, default=24, help="calls worked on at once in a worker (%(default)s)"
    )
    parser.add_argument(
        "--max-wait",
        type=float,
        metavar="SECONDS",
        help="a call that would wait longer in line is refused (default: .06, or as long as 100 calls "
        "take if that is longer, at most .25)",
    )
    parser.add_argument(
        "--drain-wait",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="from saying NOT_SERVING to refusing calls (%(default)s)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="for calls in flight to end after that (%(default)s)",
    )
    parser.add_argument(
        "--state-key-file",
        type=Path,
        metavar="FILE",
        help="the key that signs carried states, the same for all replicas, and after it, while it "
        f"is replaced, the one before; at least 32 bytes each (default: {KEY_VARIABLE} in the "
        "environment, else a key of this process alone)",
    )
    parser.add_argument(
        "--previous-hours",
        type=float,
        default=24.0,
        metavar="HOURS",
        help="after a version is made the one before answers the states it gave; 0 for never "
        "(%(default)s)",
    )
    parser.add_argument(
        "--max-streams",
        type=int,
        default=64,
        metavar="N",
        help="streams of events open at once in a worker, beyond them one is refused (%(default)s)",
    )
    parser.add_argument(
        "--min-voters",
        type=int,
        default=5,
        metavar="N",
        help="reasons tell of similar users where at least so many voted for an item; 0 for never "
        "(%(default)s)",
    )
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="FILE",
        help="a TOML file with variants among which people are shared out by their ids",
    )
    parser.add_argument(
        "--require-parity",
        action="store_true",
        help="refuse a bundle that 'kinrec verify' has not passed",
    )
    _add_safety(parser)
    _add_observing(parser)


def _add_safety(parser: argparse.ArgumentParser) -> None:
    """Add what says who may call, and how."""
    group = parser.add_argument_group("safety", "SECURITY.md says what each protects from.")
    group.add_argument(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="the server's certificate in PEM, and behind it those that lead to the root; read again "
        "when it changes, as all of these files are",
    )
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key in PEM")
    group.add_argument(
        "--tls-client-ca",
        type=Path,
        metavar="FILE",
        help="take only clients with a certificate that these roots, in PEM, lead to",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="speak plain text to other machines; without it that is refused",
    )
    group.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="a TOML file of the tokens of which every call must carry one ('kinrec token' makes them); "
        "each worker counts the calls of a rate for itself",
    )
    group.add_argument(
        "--reflection",
        action="store_true",
        help="describe the services to callers without the protos, such as grpcurl",
    )
    for flag, default, text in (
        (
            "--max-connections",
            1000,
            "connections open at once in a worker, beyond them one is closed",
        ),
        ("--max-concurrent-streams", 1000, "calls open at once on a connection, others wait"),
        (
            "--max-watches",
            1000,
            "health watches open at once in a worker, beyond them one is refused",
        ),
    ):
        group.add_argument(
            flag, type=int, default=default, metavar="N", help=f"{text} (%(default)s)"
        )
    group.add_argument(
        "--max-connection-age",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="after which a client is asked to connect anew (%(default)s)",
    )


def _add_observing(parser: argparse.ArgumentParser) -> None:
    """Add what an operator sees of the server."""
    parser.add_argument(
        "--metrics-address",
        default="",
        metavar="HOST:PORT",
        help="serve metrics for Prometheus there (default: nowhere)",
    )
    parser.add_argument(
        "--log-format", default="text", choices=LOG_FORMATS, help="of the log (%(default)s)"
    )
    parser.add_argument(
        "--log-level", default="info", choices=LOG_LEVELS, help="what is logged (%(default)s)"
    )
    parser.add_argument(
        "--log-calls",
        action="store_true",
        help="log every call, not those alone that fail or are slow, of which 10 a second and "
        "process are logged",
    )
    parser.add_argument(
        "--slow-call-ms",
        type=float,
        metavar="MS",
        help="log what takes longer with the times of its stages (default: do not)",
    )
    parser.add_argument(
        "--log-personal-data",
        action="store_true",
        help="let the log of calls have user ids, item ids and the text of unexpected errors",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal.

    Returns:
        0 after a drain; 1 if the workers end by themselves; 2 if the bundle, a flag or the port cannot be used, with one line on
        standard error.
    """
    # One process per core: threads of numpy's own would take turns on that core and spin meanwhile.
    # Numpy reads the variable when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[_EXPERIMENTS] = _experiments(os.environ.get(_EXPERIMENTS, ""))
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
            threads=args.threads,
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


def default_workers() -> int:
    """Give how many cores this process may use: of the machine's, and of its container's share."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # no limit, or none that is told so
        pass
    return max(1, round(cores))


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
