"""Calls per second of one worker and of several, each RPC at 1, 16 and 64 callers, by h2load.

Each caller has a connection of its own. A server has as many cores as workers, for the threads of a
worker that run on two cores wait for each other. h2load may run on all. One worker leaves it a core;
where there are as many workers as cores it takes some of what they would have, and so does whatever
else runs, so the calls per second of several workers ("as measured") say less than how they scale.
What h2load takes is none of the server's CPU time: "to 1" is how many times the calls of one worker
several would answer if each had a core of its own, from the CPU time that a call takes of all processes
of the server with one and with several:

    workers * CPU time of a call with one / CPU time of a call with several

It is less than the number of workers as far as they cost each other CPU time: caches, memory and what
they share in the system. It does not see a worker that has nothing to do because more connections fell
to another, nor do the calls per second for long, since each connection makes as many calls: who has more
of them ends later. So the most callers call again, some seconds at a time, however many calls come of it,
with h2load on the cores of the server alone, as many as it has workers. It then takes the same part of
one core as of several. Beside each RPC stands what an empty call of the same sizes costs. All servers run
at the same time and take turns, for a machine that others use too is now fast, now slow. Of a batch
calls per second and CPU time are those of each person in it; how long it takes is of the whole. What
onnxruntime and the indexes take alone, Annoy's among them, is measured first.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import (
    BIN,
    ECHO,
    ECHO_THREADS,
    EVENTS,
    FIRST_TIME,
    PLAIN,
    SERVICE,
    Question,
    answer_size,
    bundle_of,
    known_ids,
    limit_numpy_threads,
    parts_table,
    questions_of,
    refined_options,
    refined_request,
    sample_store,
    with_state,
)
from parts import parts_us
from processes import Server, serve
from rich.console import Console
from rich.table import Table

from kinrec.engine import Engine, Event
from kinrec.v1 import recommender_pb2 as pb

CALLERS = (1, 16, 64)
SECONDS, TURNS = 2, 3
EMPTY = 0  # stands for the empty calls, beside numbers of workers
LEAST_CALLS = 20  # of a measure, whatever a call asks
STREAMS = 256  # that may be open: the next of a caller can begin before its last has quite ended
GRPC_FRAME = 5  # bytes before a message: whether it is compressed, and its length


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a server did.

    Attributes:
        per_second: Calls that were answered.
        p50_ms: The median latency.
        p99_ms: The latency that one call in a hundred exceeds.
        cpu_us: CPU time of all its processes per call.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Target:
    """What is called.

    Attributes:
        server: The server.
        calls: What is measured.
    """

    server: Server
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one kind.

    Attributes:
        method: The full name of the method.
        request: The serialized request.
        answer: The bytes that it is answered with, at least.
        people: How many people it asks about.
    """

    method: str
    request: bytes
    answer: int
    people: int


def main() -> None:
    """Measure and print."""
    args = _arguments()
    limit_numpy_threads()
    console = Console(width=150)
    if shutil.which("h2load") is None:
        sys.exit("bench-load needs h2load: apt-get install nghttp2-client")
    store = args.store or sample_store(console)
    engine = Engine.load(store)
    item_ids, user_id = known_ids(engine)
    events = [Event(item_ids[i % len(item_ids)], "", FIRST_TIME + 60.0 * i) for i in range(EVENTS)]
    console.print(parts_table(parts_us(bundle_of(store, engine), engine.manifest)))
    asked = questions_of(events, user_id, [], refined_request(refined_options(engine)))
    asked.append(_stream(asked))
    with ExitStack() as running:
        targets: dict[int, Target] = {}
        for workers in sorted({1, args.workers}):
            command = [*_on(workers), BIN / "kinrec", "serve", store, "--port", "0"]
            command += ["--workers", str(workers), "--drain-wait", "0", "--max-wait", "60"]
            command += ["--max-streams", str(STREAMS)]
            server = running.enter_context(serve(command, None))
            # Each has a key of its own, by which it knows its states.
            questions = with_state(server, asked, asked[0].request)
            calls = [
                Call(f"/{SERVICE}/{one.method}", one.request, answer_size(server, one), one.people)
                for one in questions
            ]
            targets[workers] = Target(server, calls)
        echo = [f"Q{place}={call.answer}" for place, call in enumerate(calls)]
        command = [*_on(1), sys.executable, ECHO, "--threads", str(ECHO_THREADS), *echo]
        server = running.enter_context(serve(command, None))
        calls = [
            dataclasses.replace(call, method=f"/kinrec.benchmark.Echo/Q{place}")
            for place, call in enumerate(calls)
        ]
        found = _measure({**targets, EMPTY: Target(server, calls)}, args.calls)
        scaled = (
            [_scaled(targets, place) for place in range(len(asked))] if targets.keys() > {1} else []
        )
    empty = found.pop(EMPTY)
    console.print(_table(asked, found, empty))
    for workers in sorted(found)[1:]:
        console.print(_means(found[min(found)], found[workers], workers))
        ratios = [of_each[workers] for of_each in scaled]
        console.print(
            f"with h2load on the cores of the server, medians of {TURNS} turns of {SECONDS} s: "
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}; mean {statistics.mean(ratios):.2f}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, help="a store (default: a sample that is trained)")
    parser.add_argument("--calls", type=int, default=3000, help="of each measure (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="beside one (%(default)s)")
    return parser.parse_args()


def _stream(asked: list[Question]) -> Question:
    """Give a stream that ends after its first message, which asks for what a plain recommendation does."""
    plain = next(question for question in asked if question.name == PLAIN)
    start = pb.RecommendRequest.FromString(plain.request)
    request = pb.RecommendStreamRequest(start=start).SerializeToString()
    return Question(f"RecommendStream, {EVENTS} events", "RecommendStream", request, ())


def _on(cores: int) -> list[str]:
    """What a command begins with that is to use so many cores."""
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    return ["taskset", "--cpu-list", ",".join(map(str, allowed))]


def _measure(targets: dict[int, Target], count: int) -> dict[int, list[list[Throughput]]]:
    """Give, for each call, what each server did at each number of callers. They take turns.

    Args:
        targets: The servers, by their workers or ``EMPTY``.
        count: About how many people each asks about, by no fewer than 20 calls and one of each caller.
    """
    found: dict[int, list[list[Throughput]]] = {of: [] for of in targets}
    for place in range(len(targets[EMPTY].calls)):
        for rows in found.values():
            rows.append([])
        for callers in CALLERS:
            for of, target in targets.items():
                load = _load(target.server, target.calls[place], callers, count)
                found[of][place].append(load)
    return found


def _load(server: Server, call: Call, callers: int, count: int) -> Throughput:
    calls = max(count // call.people, LEAST_CALLS, callers)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = _h2load(Path(folder) / "request", call.request, callers)
        url = f"http://{server.address}{call.method}"
        _run([*command, "-n", str(max(calls // 5, callers)), url], call)
        before, began = server.cpu_seconds(), time.perf_counter()
        _run([*command, "-n", str(calls), f"--log-file={log}", url], call)
        took, cpu = time.perf_counter() - began, server.cpu_seconds() - before
        # Of each call: when it began, its status, and how long it took, in microseconds.
        lines = [line.split() for line in log.read_text("ascii").splitlines()]
    cuts = statistics.quantiles((int(micros) / 1e3 for _, _, micros in lines), n=100)
    people = calls * call.people
    return Throughput(people / took, cuts[49], cuts[98], cpu / people * 1e6)


def _run(command: list[str], call: Call) -> str:
    """Have h2load call, and give what it said; whoever is refused is told so in no bytes of a message."""
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    done = re.search(r"requests: .* (\d+) succeeded, 0 failed, 0 errored, 0 timeout", said)
    data = re.search(r"\((\d+)\) data", said)
    if not (done and data and int(data[1]) >= int(done[1]) * call.answer):
        raise RuntimeError(f"{call.method}: not all calls were answered:\n{said}")
    return said


def _scaled(targets: dict[int, Target], place: int) -> dict[int, float]:
    """Give how many times the calls per second of the fewest workers each number of them answers."""
    ratios: dict[int, list[float]] = {workers: [] for workers in targets}
    for turn in range(TURNS):
        # Now up, now down, so that a machine that slows down does not favour either.
        order = sorted(targets.items(), reverse=turn % 2 == 1)
        rates = {
            workers: _rate(target.server, target.calls[place], _on(workers))
            for workers, target in order
        }
        for workers, rate in rates.items():
            ratios[workers].append(rate / rates[min(rates)])
    return {workers: statistics.median(found) for workers, found in ratios.items()}


def _rate(server: Server, call: Call, on: list[str]) -> float:
    """Give the calls per second of the most callers, with h2load on some cores."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*on, *_h2load(Path(folder) / "request", call.request, CALLERS[-1])]
        command += ["-D", str(SECONDS), "--warm-up-time", "1"]
        said = _run([*command, f"http://{server.address}{call.method}"], call)
    return float(re.findall(r"finished in .*?, ([0-9.]+) req/s", said)[0])


def _h2load(file: Path, request: bytes, callers: int) -> list[str]:
    """Write a request to a file, and give what a command to send it begins with."""
    file.write_bytes(b"\0" + len(request).to_bytes(GRPC_FRAME - 1, "big") + request)
    command = ["h2load", "-t", "1", "-m", "1", "-c", str(callers), "-d", str(file)]
    return [*command, "-H", "content-type: application/grpc", "-H", "te: trailers"]


def _means(one: list[list[Throughput]], many: list[list[Throughput]], workers: int) -> str:
    """Say how the workers scale over all questions at the most callers."""
    pairs = [(few[-1], more[-1]) for few, more in zip(one, many, strict=True)]
    measured = statistics.mean(more.per_second / few.per_second for few, more in pairs)
    scaled = statistics.mean(workers * few.cpu_us / more.cpu_us for few, more in pairs)
    return (
        f"{workers} workers to 1 with {CALLERS[-1]} callers, mean of all calls: {scaled:.2f} by CPU "
        f"time, {measured:.2f} as measured, with what h2load takes"
    )


def _table(
    asked: list[Question],
    found: dict[int, list[list[Throughput]]],
    empty: list[list[Throughput]],
) -> Table:
    few, many = min(found), max(found)
    table = Table("call", title=f"{few} and {many} workers", title_justify="left")
    for column in ("callers", "empty µs", "CPU µs", "ratio", "calls/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for workers in sorted(found)[1:]:
        for column in ("CPU µs", "calls/s", "p99 ms", "as measured", f"{workers} to {few}"):
            table.add_column(column, justify="right")
    for place, question in enumerate(asked):
        for row, callers in enumerate(CALLERS):
            one, nothing = found[few][place][row], empty[place][row]
            cells = [f"{nothing.cpu_us:,.0f}", f"{one.cpu_us:,.0f}"]
            cells += [f"{one.cpu_us / nothing.cpu_us:.2f}", f"{one.per_second:,.0f}"]
            cells += [f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}"]
            for workers in sorted(found)[1:]:
                more = found[workers][place][row]
                cells += [f"{more.cpu_us:,.0f}", f"{more.per_second:,.0f}", f"{more.p99_ms:.1f}"]
                cells += [f"{more.per_second / one.per_second:.2f}"]
                cells += [f"{workers * one.cpu_us / more.cpu_us / few:.2f}"]
            table.add_row("" if row else question.name, str(callers), *cells)
    return table


if __name__ == "__main__":
    main()
