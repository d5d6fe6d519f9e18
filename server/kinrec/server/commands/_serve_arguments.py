"""What `kinrec serve` is told on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kinrec.server.observability.observing import LOG_FORMATS, LOG_LEVELS

if TYPE_CHECKING:
    import argparse

KEY_VARIABLE = "KINREC_STATE_KEY"


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
        "--concurrency",
        type=int,
        default=32,
        help="calls worked on together in a worker (%(default)s)",
    )
    parser.add_argument(
        "--max-wait",
        type=float,
        metavar="SECONDS",
        help="a call that would wait longer in line is refused (default: .05, or as long as 100 calls "
        "take if that is longer, at most 1)",
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
