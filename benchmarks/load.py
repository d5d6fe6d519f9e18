"""Callers that keep a server busy, and the CPU time and latency that their calls took."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from processes import Server


@dataclass(frozen=True, slots=True)
class Load:
    """How much to call.

    Attributes:
        calls: Calls of one repeat.
        repeats: Repeats; of each measure the median is taken.
    """

    calls: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs.

    Attributes:
        cpu_us: CPU time of the server per call, in microseconds.
        p50_ms: The median latency, in milliseconds.
        p99_ms: The latency that one call in a hundred exceeds, in milliseconds.
    """

    cpu_us: float
    p50_ms: float
    p99_ms: float

    def shared_by(self, people: int) -> Cost:
        """Give the CPU time for each of the people that a call asks about; the latency is all's."""
        return Cost(self.cpu_us / people, self.p50_ms, self.p99_ms)


def measure(server: Server, method: str, request: bytes, callers: int, load: Load) -> Cost:
    """Call a method from several callers at once; one call in four first, to warm up."""
    # Bytes in, bytes out: the callers' own work is kept small.
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(method)
        run(call, request, callers, max(load.calls // 4, callers))
        cpu, p50, p99 = [], [], []
        for _ in range(load.repeats):
            before = server.cpu_seconds()
            latencies = run(call, request, callers, load.calls)
            cpu.append((server.cpu_seconds() - before) / len(latencies))
            cuts = statistics.quantiles(latencies, n=100, method="inclusive")
            p50.append(cuts[49])
            p99.append(cuts[98])
    return Cost(
        statistics.median(cpu) * 1e6, statistics.median(p50) * 1e3, statistics.median(p99) * 1e3
    )


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
