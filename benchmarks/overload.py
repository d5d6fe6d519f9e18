"""What a server still does when it is offered more than it can do.

One worker on one core, the callers on the others. Its capacity is what callers get who wait for each
answer before they ask again. Then calls come at fixed times, however many are still unanswered: at
half of the capacity, and at twice. The capacity of a machine that others use too changes meanwhile: it
is found before and after each offer, the mean of both is what the answers are compared with, and all is
done several times and the medians are told.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from bench import BIN, EVENTS, FIRST_TIME, SERVICE, known_ids, limit_numpy_threads, sample_store
from load import run
from processes import Cores, serve
from rich.console import Console
from rich.table import Table

from kinrec.engine import Engine
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

CALLERS = 64
SHARES = (0.5, 2.0)  # of the capacity that are offered


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of calls.

    Attributes:
        offered: Calls per second.
        answered: Of these, per second while they were offered.
        p50_ms: The median latency of those answered, in milliseconds.
        p99_ms: The latency that one in a hundred of those answered exceeds.
        others: How many ended with each other status.
    """

    offered: float
    answered: float
    p50_ms: float
    p99_ms: float
    others: Counter[str]


def main() -> None:
    """Measure and print."""
    args = _arguments()
    limit_numpy_threads()
    console = Console(width=110)
    store = args.store or sample_store(console)
    engine = Engine.load(store)
    item_ids, _ = known_ids(engine)
    request = pb.RecommendRequest()
    for number in range(EVENTS):
        event = request.events.add(item_id=item_ids[number % len(item_ids)])
        event.time.seconds = FIRST_TIME + 60 * number
    table = Table("calls", title="Recommend, 50 events, one worker", title_justify="left")
    for column in ("offered /s", "answered /s", "of capacity", "p50 ms", "p99 ms", "refused"):
        table.add_column(column, justify="right")
    command = [BIN / "kinrec", "serve", store, "--port", "0", "--drain-wait", "0", "--workers", "1"]
    if args.max_wait:
        command += ["--max-wait", str(args.max_wait)]
    found: dict[str, list[tuple[Outcome, float]]] = {}  # each with the capacity then
    with serve(command, Cores.choose()) as server:
        asked = server.address, request.SerializeToString()
        for _ in range(args.repeats):
            lone, many = (_closed(*asked, callers, args.calls) for callers in (1, CALLERS))
            found.setdefault("one caller that waits", []).append((lone, many.answered))
            found.setdefault(f"{CALLERS} callers that wait", []).append((many, many.answered))
            for share in SHARES:
                before = many.answered
                offered = _open(*asked, share * before, args.seconds, args.timeout)
                many = _closed(*asked, CALLERS, args.calls)
                capacity = (before + many.answered) / 2
                found.setdefault(f"{share:g} times the capacity", []).append((offered, capacity))
    for name, outcomes in found.items():
        _add(table, name, outcomes)
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, help="a store (default: a sample that is trained)")
    parser.add_argument(
        "--calls", type=int, default=4000, help="to find the capacity (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each offer (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of all (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=15.0, help="of the calls at fixed times (%(default)s)"
    )
    parser.add_argument("--max-wait", type=float, help="of the server (default: its own)")
    return parser.parse_args()


def _closed(address: str, request: bytes, callers: int, calls: int) -> Outcome:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Recommend")
        run(call, request, callers, calls // 4)
        began = time.perf_counter()
        latencies = sorted(run(call, request, callers, calls))
        rate = len(latencies) / (time.perf_counter() - began)
    return Outcome(rate, rate, *_percentiles(latencies), Counter())


def _open(address: str, request: bytes, rate: float, seconds: float, timeout: float) -> Outcome:
    answered: list[tuple[float, float]] = []  # when, and after how long
    others: Counter[str] = Counter()
    lock = threading.Lock()

    def note(future: grpc.Future, began: float) -> None:
        now, code = time.perf_counter(), future.code()
        with lock:
            if code == grpc.StatusCode.OK:
                answered.append((now, now - began))
            else:
                others[code.name] += 1

    count = int(rate * seconds)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Recommend")
        start = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, start + number / rate - time.perf_counter()))
            began = time.perf_counter()
            future = call.future(request, timeout=timeout)
            future.add_done_callback(lambda done, began=began: note(done, began))
        end = time.perf_counter()
        while len(answered) + others.total() < count:
            time.sleep(0.01)
    meanwhile = sum(when <= end for when, _ in answered)
    latencies = sorted(took for _, took in answered)
    return Outcome(
        count / (end - start), meanwhile / (end - start), *_percentiles(latencies), others
    )


def _percentiles(latencies: list[float]) -> tuple[float, float]:
    """Give the median and the 99th percentile of sorted seconds, in milliseconds."""
    return tuple(latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99))


def _add(table: Table, name: str, outcomes: list[tuple[Outcome, float]]) -> None:
    """Add a row of medians, the share with the least and the greatest."""
    shares = sorted(found.answered / capacity for found, capacity in outcomes)
    others: Counter[str] = Counter()
    for found, _ in outcomes:
        others += found.others

    def median_of(value: Callable[[Outcome], float]) -> float:
        return statistics.median(value(found) for found, _ in outcomes)

    table.add_row(
        name,
        f"{median_of(lambda found: found.offered):,.0f}",
        f"{median_of(lambda found: found.answered):,.0f}",
        f"{statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f})",
        f"{median_of(lambda found: found.p50_ms):.1f}",
        f"{median_of(lambda found: found.p99_ms):.1f}",
        ", ".join(f"{count:,} {code}" for code, count in others.items()),
    )


if __name__ == "__main__":
    main()
