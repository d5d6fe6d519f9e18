"""`make fuzz`: hostile calls to a server of its own; exit code 1 if one ends as it must not."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from rich.console import Console
from rich.table import Table

from fuzzing.campaign import attack, learn
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from fuzzing.requests import Maker

KINREC = (sys.executable, "-m", "kinrec.cli")
# The states of a violation that is printed are taken by the server of the next run as well.
ENVIRONMENT = os.environ | {"KINREC_STATE_KEY": "fuzz" * 8, "OMP_NUM_THREADS": "1"}

# Before memory is compared, so that what is allocated once is there: threads, pools, the heap.
WARM_UP = 2_000
# What may be added by the calls after that, and what the largest requests may take at once: each
# thread may hold one of 14 MiB, what it is decoded to and what it is answered with.
GROWTH_MIB = 128
PEAK_MIB = 512


def main() -> int:
    """Train a small model, serve it, call it, and say what came of it."""
    args = _arguments()
    console = Console(width=110, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        store = args.store or _sample_store(Path(folder), console)
        with _serve(store, log) as (pid, address):
            problems = _run(args, console, pid, address)
        said = log.read_text("utf-8", "replace")
        if "Traceback" in said:
            problems.append(f"the server logged an exception:\n{said[said.index('Traceback') :]}")
    for problem in problems:
        console.print(f"VIOLATION: {problem}", markup=False, soft_wrap=True)
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="%(default)s by default")
    parser.add_argument("--threads", type=int, default=4, help="callers (%(default)s)")
    parser.add_argument("--seed", type=int, help="makes the same calls again (default: a new one)")
    parser.add_argument("--store", type=Path, help="serve this (default: a sample that is trained)")
    return parser.parse_args()


def _run(args: argparse.Namespace, console: Console, pid: int, address: str) -> list[str]:
    """Make the calls and give what does not hold."""
    seed = int(time.time()) if args.seed is None else args.seed
    console.print(f"{args.calls:,} calls from {args.threads} threads; to repeat them: SEED={seed}")
    maker = learn(address)
    reference = _normal_answer(address)
    warm_up = min(WARM_UP, args.calls // 4)
    counts, problems = _attack(args, console, pid, address, maker, seed=2 * seed, count=warm_up)
    before = _memory(pid, "VmRSS")
    if not problems:
        more, problems = _attack(
            args, console, pid, address, maker, seed=2 * seed + 1, count=args.calls - warm_up
        )
        counts += more
    console.print(_table(counts))
    after, peak = _memory(pid, "VmRSS"), _memory(pid, "VmHWM")
    console.print(f"server: {before} MiB after {warm_up:,} calls, {after} at the end, peak {peak}")
    if after - before > GROWTH_MIB:
        problems.append(f"the server grew by {after - before} MiB, {GROWTH_MIB} are allowed")
    if peak - before > PEAK_MIB:
        problems.append(f"the server took {peak - before} MiB at once, {PEAK_MIB} are allowed")
    try:
        if _normal_answer(address) != reference:
            problems.append("the answer to a normal call is not the one before")
    except grpc.RpcError as error:
        problems.append(f"a normal call is not answered any more: {error.code().name}")
    return problems


def _attack(
    args: argparse.Namespace,
    console: Console,
    pid: int,
    address: str,
    maker: Maker,
    *,
    seed: int,
    count: int,
) -> tuple[Counter[tuple[str, str]], list[str]]:
    start = time.monotonic()

    def tell(done: int) -> None:
        seconds = time.monotonic() - start
        memory = _memory(pid, "VmRSS")
        console.print(f"{done:,} of {count:,}, {done / seconds:,.0f} a second, server {memory} MiB")

    report = attack(address, maker, count=count, seed_number=seed, threads=args.threads, tell=tell)
    return report.counts, [str(report.violation)] if report.violation else []


def _sample_store(folder: Path, console: Console) -> Path:
    console.print("training a small model")
    data, store = folder / "data", folder / "shop"
    sizes = ["--users", "300", "--items", "200", "--seed", "7"]
    _command("sample-data", *sizes, "--out", data)
    small = ["--epochs", "4", "--vector-size", "32", "--hidden-size", "32", "--factors", "32"]
    files = ["--events", data / "events.csv", "--items", data / "items.csv"]
    _command("train", *files, "--out", store, *small)
    return store


def _command(*arguments: str | Path) -> None:
    subprocess.run([*KINREC, *arguments], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


@contextmanager
def _serve(store: Path, log: Path) -> Iterator[tuple[int, str]]:
    """Run a server; give its process and its address."""
    # One worker: its memory is that of the process that is started.
    command = [*KINREC, "serve", store, "--port", "0", "--drain-wait", "0", "--workers", "1"]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, env=ENVIRONMENT
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("kinrec: serving "):
                raise SystemExit(log.read_text("utf-8"))
            yield process.pid, line.split()[-1]
        finally:
            process.terminate()


def _normal_answer(address: str) -> pb.RecommendResponse:
    """Ask as anyone would. The server gives the same to the same, whatever came between."""
    with grpc.insecure_channel(address) as channel:
        stub = RecommenderServiceStub(channel)
        return stub.Recommend(
            pb.RecommendRequest(events=[pb.Event(item_id="i7", event_type="view")]), timeout=10
        )


def _memory(pid: int, name: str) -> int:
    """What the process has, VmRSS, or had at most, VmHWM, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // 1024
    return 0


def _table(counts: Counter[tuple[str, str]]) -> Table:
    table = Table("call", "status and reason", title=f"{counts.total():,} calls", box=None)
    table.add_column("calls", justify="right")
    before = ""
    for (method, status), count in sorted(counts.items()):
        table.add_row("" if method == before else method, status, f"{count:,}")
        before = method
    return table


if __name__ == "__main__":
    sys.exit(main())
