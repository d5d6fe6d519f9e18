"""What a server still does when it is offered more than it can do.

One worker on one core, the callers on the others. Its capacity is what callers get who wait for each
answer before they ask again. Then calls come at fixed times, however many are still unanswered: at
half of the capacity, and at twice. A machine that others use too is now fast, now slow, so all this takes
turns of about a second, each offer is compared with the mean of the capacity just before and just after,
and the median of many rounds is told, with the quarters of the rounds that are below and above the rest.
Calls of several numbers of events follow each other in turn.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from bench import BIN, EVENTS, FIRST_TIME, SERVICE, known_ids, limit_numpy_threads, sample_store
from load import at_once
from processes import Cores, serve
from rich.console import Console
from rich.table import Table

from kinrec.engine import Engine
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    Call = grpc.UnaryUnaryMultiCallable[bytes, bytes]

CALLERS = 64
SHARES = (0.5, 2.0)  # of the capacity that are offered
SETTLING = 0.3  # seconds at first of which nothing is counted, while a queue forms


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of the calls of a turn.

    Attributes:
        offered: Calls per second.
        answered: Of these, per second while they were offered.
        latencies: Of those answered, in seconds.
        others: How many ended with each other status.
    """

    offered: float
    answered: float
    latencies: list[float]
    others: Counter[str]


def main() -> None:
    """Measure and print."""
    args = _arguments()
    limit_numpy_threads()
    console = Console(width=110)
    store = args.store or sample_store(console)
    engine = Engine.load(store)
    item_ids, _ = known_ids(engine)
    requests = itertools.cycle([_request(item_ids, count) for count in args.events])
    counts = ", ".join(map(str, args.events))
    title = f"Recommend, {counts} events, one worker"
    table = Table("calls", title=title, title_justify="left")
    for column in ("offered /s", "answered /s", "of capacity", "p50 ms", "p99 ms", "refused"):
        table.add_column(column, justify="right")
    command = [BIN / "kinrec", "serve", store, "--port", "0", "--drain-wait", "0", "--workers", "1"]
    if args.max_wait:
        command += ["--max-wait", str(args.max_wait)]
    found: dict[str, list[tuple[Turn, float]]] = {}  # each with the capacity then
    with serve(command, Cores.choose()) as server, grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Recommend")
        asked = call, requests
        for number in range(1 + args.rounds):
            if number == 1:
                found.clear()  # the first round was to warm up
            lone, many = (_waiting(*asked, callers, args.seconds) for callers in (1, CALLERS))
            found.setdefault("one caller that waits", []).append((lone, many.answered))
            found.setdefault(f"{CALLERS} callers that wait", []).append((many, many.answered))
            for share in SHARES:
                before = many.answered
                offered = _at_fixed_times(*asked, share * before, args.seconds, args.timeout)
                many = _waiting(*asked, CALLERS, args.seconds)
                capacity = (before + many.answered) / 2
                found.setdefault(f"{share:g} times the capacity", []).append((offered, capacity))
    for name, turns in found.items():
        _add(table, name, turns)
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, help="a store (default: a sample that is trained)")
    parser.add_argument("--rounds", type=int, default=30, help="of all (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.2,
        help="of each turn, several times the longest wait (%(default)s)",
    )
    parser.add_argument(
        "--timeout", type=float, default=15.0, help="of the calls at fixed times (%(default)s)"
    )
    parser.add_argument(
        "--events", type=int, nargs="+", default=[EVENTS], help="of the calls (%(default)s)"
    )
    parser.add_argument("--max-wait", type=float, help="of the server (default: its own)")
    return parser.parse_args()


def _request(item_ids: list[str], count: int) -> bytes:
    request = pb.RecommendRequest()
    for number in range(count):
        event = request.events.add(item_id=item_ids[number % len(item_ids)])
        event.time.seconds = FIRST_TIME + 60 * number
    return request.SerializeToString()


def _waiting(call: Call, requests: Iterator[bytes], callers: int, seconds: float) -> Turn:
    """Have callers call who wait for each answer; none may be refused."""
    start = time.perf_counter()
    ended: list[tuple[float, float]] = []

    def ask(_number: int) -> None:
        while (began := time.perf_counter()) < start + seconds:
            call(next(requests), timeout=60)
            now = time.perf_counter()
            ended.append((now, now - began))

    at_once(ask, callers)
    turn = _turn(ended, Counter(), start, seconds, 0.0)
    return dataclasses.replace(turn, offered=turn.answered)


def _at_fixed_times(
    call: Call, requests: Iterator[bytes], rate: float, seconds: float, timeout: float
) -> Turn:
    """Call so many times per second, whatever becomes of the calls."""
    ended: list[tuple[float, float]] = []
    others: Counter[str] = Counter()
    lock = threading.Lock()

    def note(future: grpc.Future, began: float) -> None:
        now, code = time.perf_counter(), future.code()
        with lock:
            if code == grpc.StatusCode.OK:
                ended.append((now, now - began))
            else:
                others[code.name] += 1

    count = int(rate * seconds)
    start = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        began = time.perf_counter()
        future = call.future(next(requests), timeout=timeout)
        future.add_done_callback(lambda done, began=began: note(done, began))
    took = time.perf_counter() - start
    while len(ended) + others.total() < count:
        time.sleep(0.01)
    return _turn(ended, others, start, took, count / took)


def _turn(
    ended: list[tuple[float, float]],
    others: Counter[str],
    start: float,
    seconds: float,
    offered: float,
) -> Turn:
    """Put together what became of calls.

    Args:
        ended: When each answer came, and after how long.
        others: How many ended with each other status.
        start: When the turn began.
        seconds: How long calls were offered.
        offered: How many, per second.
    """
    counted = [took for when, took in ended if SETTLING < when - start <= seconds]
    return Turn(offered, len(counted) / (seconds - SETTLING), counted, others)


def _add(table: Table, name: str, turns: list[tuple[Turn, float]]) -> None:
    """Add a row of medians; of the share the quartiles as well, of the latencies those of all turns."""
    shares = [turn.answered / capacity for turn, capacity in turns]
    low, middle, high = (
        statistics.quantiles(shares, method="inclusive") if shares[1:] else shares * 3
    )
    latencies = sorted(took for turn, _ in turns for took in turn.latencies)
    p50, p99 = (latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99))
    others: Counter[str] = Counter()
    for turn, _ in turns:
        others += turn.others
    table.add_row(
        name,
        f"{statistics.median(turn.offered for turn, _ in turns):,.0f}",
        f"{statistics.median(turn.answered for turn, _ in turns):,.0f}",
        f"{middle:.2f} ({low:.2f} to {high:.2f})",
        f"{p50:.1f}",
        f"{p99:.1f}",
        ", ".join(f"{count:,} {code}" for code, count in others.items()),
    )


if __name__ == "__main__":
    main()
