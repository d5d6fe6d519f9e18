"""What goes wrong around a server that runs for long: each fault, done for real."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from kinrec.engine.store import list_versions, read_pin, write_pin
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from soaking.process import Served

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
# The length of a HEADERS frame of 100 bytes, and none of them.
HALF_A_HEADER = b"\x00\x00\x64\x01\x04\x00\x00\x00\x01"
CONNECTIONS = 2_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: How it is shown.
        happen: Makes it happen, and returns when it is over.
    """

    name: str
    happen: Callable[[Served, random.Random], None]


def _kill_a_worker(served: Served, rng: random.Random) -> None:
    """Kill -9 one of the workers; wait until there are as many as before."""
    before = served.workers()
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(before), signal.SIGKILL)
    end = time.monotonic() + 30
    while len(served.workers()) < len(before) or served.workers() == before:
        if time.monotonic() > end:
            raise RuntimeError("no worker took the place of one that was killed")
        time.sleep(0.05)


def _serve_another_version(served: Served, rng: random.Random) -> None:
    """Pin another version than the one that is pinned."""
    pinned = read_pin(served.store)
    write_pin(served.store, rng.choice([v for v in list_versions(served.store) if v != pinned]))
    time.sleep(1.0)


def _half_a_version(served: Served, _rng: random.Random) -> None:
    """Let a version appear of which the largest file is cut short, and go again."""
    source = served.store / list_versions(served.store)[0]
    half = served.store / "29990101T000000Z"
    pinned = read_pin(served.store)
    write_pin(served.store, None)  # it is the newest
    shutil.copytree(source, half)
    largest = max(half.glob("*.npy"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    time.sleep(1.0)
    shutil.rmtree(half)
    write_pin(served.store, pinned)


def _look_again(served: Served, _rng: random.Random) -> None:
    """SIGHUP, many times."""
    for _ in range(20):
        os.kill(served.pid, signal.SIGHUP)


@contextlib.contextmanager
def _connections(address: str, count: int) -> Iterator[list[socket.socket]]:
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            with contextlib.suppress(OSError):  # refused by the system's own limits
                opened.append(stack.enter_context(socket.create_connection((host, int(port)), 5)))
        yield opened


def _many_connections(served: Served, _rng: random.Random) -> None:
    """Open 2,000 connections, say nothing on them, and close them."""
    with _connections(served.address, CONNECTIONS):
        time.sleep(1.0)


def _half_a_header(served: Served, _rng: random.Random) -> None:
    """Send the beginning of a call and stop."""
    with _connections(served.address, 100) as opened:
        for one in opened:
            with contextlib.suppress(OSError):
                one.sendall(PREFACE + SETTINGS + HALF_A_HEADER)
        time.sleep(2.0)


def _no_message(served: Served, _rng: random.Random) -> None:
    """Begin calls, and send no message on them."""
    over = threading.Event()

    def messages() -> Iterator[bytes]:
        over.wait(20)
        yield from ()

    methods = ("kinrec.v1.RecommenderService/Recommend", "grpc.health.v1.Health/Check")
    with grpc.insecure_channel(served.address, _OWN) as channel:
        for method in methods:
            call = channel.stream_unary(f"/{method}")
            for _ in range(100):
                call.future(messages(), timeout=20)
        time.sleep(3.0)
        over.set()
        time.sleep(0.5)


def _never_read(served: Served, _rng: random.Random) -> None:
    """Send many events on streams, and read none of the answers."""
    events = pb.EventList(events=[pb.Event(item_id="no item")])
    start = pb.RecommendStreamRequest(start=pb.RecommendRequest(events=events.events, limit=1000))
    messages = [start, *[pb.RecommendStreamRequest(events=events)] * 200]
    with grpc.insecure_channel(served.address, _OWN) as channel:
        calls = [
            RecommenderServiceStub(channel).RecommendStream(iter(messages), timeout=10)
            for _ in range(16)
        ]
        time.sleep(2.0)
        for call in calls:
            call.cancel()


def _cancel_all(served: Served, rng: random.Random) -> None:
    """Begin calls, and cancel each a little later."""
    request = pb.RecommendRequest(events=[pb.Event(item_id=f"i{n}") for n in range(500)])
    with grpc.insecure_channel(served.address, _OWN) as channel:
        stub = RecommenderServiceStub(channel)
        for _ in range(20):
            futures = [stub.Recommend.future(request, timeout=10) for _ in range(20)]
            time.sleep(rng.random() * 0.02)
            for future in futures:
                future.cancel()


_OWN = [("grpc.use_local_subchannel_pool", 1)]

FAULTS = [
    Fault("a worker is killed", _kill_a_worker),
    Fault("another version is served", _serve_another_version),
    Fault("half a version appears", _half_a_version),
    Fault("20 times SIGHUP", _look_again),
    Fault("2,000 connections", _many_connections),
    Fault("half a header", _half_a_header),
    Fault("200 calls without a message", _no_message),
    Fault("streams that are not read", _never_read),
    Fault("400 calls are cancelled", _cancel_all),
]
