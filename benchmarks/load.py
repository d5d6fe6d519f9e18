"""Callers that keep a server busy, and the CPU time and latency that their calls took."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes import Server

_LEAST_CALLS = 20  # of a turn, whatever a call asks


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked.

    Attributes:
        server: Whom.
        method: The full name of the method.
        request: The serialized request.
        people: How many people it asks about: what a call takes is given for each.
    """

    server: Server
    method: str
    request: bytes
    people: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls took.

    Attributes:
        cpu_of_turns: CPU time of the server for each person asked about, in microseconds, of each turn.
        p50_ms: The median latency, in milliseconds; of the turns the median.
        p99_ms: The latency that one call in a hundred exceeds, likewise.
    """

    cpu_of_turns: tuple[float, ...]
    p50_ms: float
    p99_ms: float

    @property
    def cpu_us(self) -> float:
        """The median."""
        return statistics.median(self.cpu_of_turns)

    def beside(self, other: Cost) -> float:
        """Give how many times the CPU time of another it is: the median of the turns."""
        pairs = zip(self.cpu_of_turns, other.cpu_of_turns, strict=True)
        return statistics.median(one / two for one, two in pairs)


def measure(asked: Sequence[Asked], callers: int, calls: int, repeats: int) -> list[Cost]:
    """Ask by turns, from several callers at once: what else a machine does then falls on all alike.

    Args:
        asked: What is asked, of which each costs are given.
        callers: How many ask at once.
        calls: About how many people are asked about in a turn, by no fewer than 20 calls and one of each
            caller; a quarter of that first, to warm up.
        repeats: How many turns each has.
    """
    turns: list[list[tuple[float, float, float]]] = [[] for _ in asked]
    with ExitStack() as channels:
        called = [
            # Bytes in, bytes out: the callers' own work is kept small.
            channels.enter_context(grpc.insecure_channel(one.server.address)).unary_unary(
                one.method
            )
            for one in asked
        ]
        for repeat in range(1 + repeats):
            for one, call, found in zip(asked, called, turns, strict=True):
                count = max(calls // one.people, _LEAST_CALLS, callers)
                if not repeat:
                    run(call, one.request, callers, max(count // 4, callers))
                    continue
                before = one.server.cpu_seconds()
                latencies = run(call, one.request, callers, count)
                cpu = (one.server.cpu_seconds() - before) / len(latencies) / one.people * 1e6
                cuts = statistics.quantiles(latencies, n=100, method="inclusive")
                found.append((cpu, cuts[49] * 1e3, cuts[98] * 1e3))
    costs: list[Cost] = []
    for found in turns:
        cpu, p50, p99 = zip(*found, strict=True)
        costs.append(Cost(cpu, statistics.median(p50), statistics.median(p99)))
    return costs


def run(
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes], request: bytes, callers: int, calls: int
) -> list[float]:
    """Return the latency of each call, in seconds."""
    latencies: list[list[float]] = [[] for _ in range(callers)]

    def caller(number: int) -> None:
        for _ in range(max(calls // callers, 1)):
            before = time.perf_counter()
            call(request, timeout=60)
            latencies[number].append(time.perf_counter() - before)

    at_once(caller, callers)
    return [latency for taken in latencies for latency in taken]


def at_once(caller: Callable[[int], None], callers: int) -> None:
    """Have callers call, each in a thread of its own; the first failure of a call is raised at last.

    Args:
        caller: Is given its number.
        callers: How many.
    """
    failures: list[grpc.RpcError] = []

    def guarded(number: int) -> None:
        try:
            caller(number)
        except grpc.RpcError as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
