"""`make soak`: a server under load while things go wrong; exit code 1 if a call is lost or memory grows."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import json_format
from rich.console import Console

from kinrec.bundle.v1.manifest_pb2 import Manifest
from kinrec.client import Client, Event, KinrecError
from kinrec.engine import Engine
from kinrec.engine.store import find_bundle, write_pin
from soaking.faults import FAULTS
from soaking.process import KINREC, Resources, Served, serve

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

VERSIONS = ("20010101T000000Z", "20020101T000000Z")
# Between the first and the last third of the samples: what may be added, as caches fill.
GROWTH_MIB = 64.0
GROWTH_FILES = 100
# One sentence of the server's log that must never come.
TRACEBACK = "Traceback"


def main() -> int:
    """Soak, and say what came of it."""
    args = _arguments()
    console = Console(width=110, highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        store = two_versions(args.store or _sample(Path(folder)), Path(folder) / "served")
        with serve(store, Path(folder) / "log", args.workers) as (served, process):
            problems = _soak(args, console, served)
            problems += _end(process, served)
    for problem in problems:
        console.print(f"PROBLEM: {problem}", markup=False)
    console.print("nothing was lost, nothing grew" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="%(default)s by default")
    parser.add_argument("--workers", type=int, default=2, help="of the server (%(default)s)")
    parser.add_argument("--callers", type=int, default=4, help="threads that call (%(default)s)")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between faults")
    parser.add_argument("--store", type=Path, help="serve this (default: a sample that is trained)")
    parser.add_argument("--seed", type=int, default=1, help="of what goes wrong when (%(default)s)")
    return parser.parse_args()


def _sample(folder: Path) -> Path:
    import subprocess  # noqa: PLC0415

    data = folder / "data"
    command = [*KINREC, "sample-data", "--users", "300", "--items", "200", "--seed", "7"]
    subprocess.run([*command, "--out", data], check=True, stdout=subprocess.DEVNULL)
    files = ["--events", data / "events.csv", "--items", data / "items.csv"]
    command = [*KINREC, "train", *files, "--out", folder / "sample", "--epochs", "2"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "sample"


def two_versions(store: Path, served: Path) -> Path:
    """Make a store of two versions of the newest one in another."""
    bundle = find_bundle(store)
    for version in VERSIONS:
        copy = served / version
        shutil.copytree(bundle, copy)
        path = copy / "manifest.json"
        manifest = json_format.Parse(path.read_text("utf-8"), Manifest())
        manifest.version = version
        path.write_text(json_format.MessageToJson(manifest), "utf-8")
    write_pin(served, VERSIONS[0])
    return served


class _Caller(threading.Thread):
    """Calls one by one, as a service would, and counts what comes back."""

    def __init__(self, served: Served, item_ids: Sequence[str], seed: int) -> None:
        super().__init__(daemon=True)
        self._served = served
        self._item_ids = item_ids
        self._rng = random.Random(seed)
        self.stop = threading.Event()
        self.calls = 0
        self.failures: Counter[str] = Counter()

    def run(self) -> None:
        """Call until told to stop."""
        with Client(self._served.address, timeout=10.0) as client:
            session = client.session()
            while not self.stop.is_set():
                events = [
                    Event(self._rng.choice(self._item_ids)) for _ in range(self._rng.randint(1, 60))
                ]
                try:
                    wanted = self._rng.randint(1, 20)
                    if self._rng.random() < 0.5:
                        answer = session.recommend(events=events[:2], limit=wanted)
                    else:
                        answer = client.recommend(events=events, limit=wanted)
                    if len(answer.recommendations) != wanted:
                        self.failures["too few items"] += 1
                    client.similar_users(events=events)
                except KinrecError as error:
                    self.failures[f"{type(error).__name__}: {error}"] += 1
                self.calls += 2


def _soak(args: argparse.Namespace, console: Console, served: Served) -> list[str]:
    """Call, let things go wrong one after the other, and give what does not hold."""
    engine = Engine.load(served.store)
    item_ids = engine.item_ids(0, engine.manifest.item_count)
    callers = [_Caller(served, item_ids, args.seed + number) for number in range(args.callers)]
    for caller in callers:
        caller.start()
    rng = random.Random(args.seed)
    samples: list[Resources] = []
    began = time.monotonic()
    console.print("  time   memory  files  threads      calls  failed  after")
    while (now := time.monotonic() - began) < args.minutes * 60:
        fault = FAULTS[len(samples) % len(FAULTS)]
        fault.happen(served, rng)
        time.sleep(args.pause)
        found = served.resources()
        samples.append(found)
        calls, failed = _count(callers)
        console.print(
            f"{now:5.0f} s {found.memory_mib:5.0f} MiB {found.files:6} {found.threads:8} "
            f"{calls:10,} {failed:7}  {fault.name}"
        )
    for caller in callers:
        caller.stop.set()
    problems = [] if len(samples) < 3 * len(FAULTS) else _growth(samples)
    for caller in callers:
        caller.join(60)
        if caller.is_alive():
            problems.append("a caller has been waiting for an answer for a minute")
        problems += [f"{count} times: {what}" for what, count in caller.failures.items()]
    return problems


def _count(callers: Sequence[_Caller]) -> tuple[int, int]:
    calls = sum(caller.calls for caller in callers)
    return calls, sum(caller.failures.total() for caller in callers)


def _growth(samples: Sequence[Resources]) -> list[str]:
    """Compare the most of the last third with the most of the first."""
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    problems = []
    for name, most, of in (
        ("MiB of memory", GROWTH_MIB, lambda one: one.memory_mib),
        ("open files", GROWTH_FILES, lambda one: one.files),
    ):
        before, after = max(map(of, first)), max(map(of, last))
        if after > before + most:
            problems.append(f"{after:.0f} {name} at the end, {before:.0f} at the beginning")
    return problems


def _end(process: subprocess.Popen[str], served: Served) -> list[str]:
    """Drain the server."""
    process.send_signal(signal.SIGTERM)
    problems = []
    if (code := process.wait(30)) != 0:
        problems.append(f"the server ended with exit code {code}")
    said = served.log.read_text("utf-8", "replace")
    if TRACEBACK in said:
        problems.append(f"the server logged an exception:\n{said[said.index(TRACEBACK) :][:2000]}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
