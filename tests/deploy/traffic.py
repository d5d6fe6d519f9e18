"""People who ask through a balancer, and look at every answer."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kinrec.client import AsyncClient, Client, Event, KinrecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kinrec.client import EncodeSequenceResult, RecommendResult, RecommendStream

EVENTS = [Event(f"i{number}", "view") for number in range(1, 31)]
SESSIONS, ASKERS, TASKS, STREAMS = 6, 4, 4, 2
TIMEOUT = 10  # seconds: the machine has more to do than this


@dataclass(frozen=True)
class Reference:
    """What one server of one version answers after each event, with the whole history."""

    vectors: list[tuple[float, ...]]
    items: list[list[tuple[str, float]]]

    @classmethod
    def of(cls, target: str) -> Reference:
        """Ask a server."""
        histories = [EVENTS[:number] for number in range(1, len(EVENTS) + 1)]
        with Client(target, timeout=TIMEOUT) as client:
            return cls(
                [client.encode_sequence(history).vector for history in histories],
                [_items(client.recommend(history)) for history in histories],
            )


@dataclass
class Traffic:
    """Threads and tasks that ask until `end`.

    A session sends each event alone, with the state that it carries, and is compared bit for bit with
    the answer of one server to the whole history.

    Attributes:
        target: The balancer.
        references: By version, what a server answers.
        counts: The calls, what came by streams, and the answers of each version.
        failures: What calls raised.
        wrong: Answers that are not the reference's.
    """

    target: str
    references: dict[str, Reference]
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Let them ask."""
        client = Client(self.target, timeout=TIMEOUT)
        people = [self._have_sessions] * SESSIONS + [self._ask] * ASKERS + [self._stream] * STREAMS
        self._threads = [threading.Thread(target=person, args=(client,)) for person in people]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._await())))
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let them finish what they ask."""
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)
            assert not thread.is_alive()

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self.counts["calls"]

    def _have_sessions(self, client: Client) -> None:
        while not self._ended.is_set():
            with self._noting_failures():
                session = client.session()
                for number, event in enumerate(EVENTS):
                    self._look_at_vector(number, session.encode_sequence([event]))
                    if self._ended.is_set():
                        break

    async def _await(self) -> None:
        async def have_sessions() -> None:
            while not self._ended.is_set():
                with self._noting_failures():
                    session = client.session()
                    for number, event in enumerate(EVENTS):
                        self._look_at_vector(number, await session.encode_sequence([event]))

        async with AsyncClient(self.target, timeout=TIMEOUT) as client:
            await asyncio.gather(*(have_sessions() for _ in range(TASKS)))

    def _ask(self, client: Client) -> None:
        while not self._ended.is_set():
            for number in range(0, len(EVENTS), 5):
                with self._noting_failures():
                    self._look_at_items(number, client.recommend(EVENTS[: number + 1]))

    def _stream(self, client: Client) -> None:
        """Send events by streams. Opening one must not fail; one that breaks is opened anew."""
        number = 0  # the event that comes next
        while not self._ended.is_set():
            number %= len(EVENTS)
            with self._noting_failures():
                stream = client.recommend_stream(EVENTS[: number + 1])
                self._look_at_items(number, stream.first)
                number = self._send(stream, number + 1)

    def _send(self, stream: RecommendStream, number: int) -> int:
        """Send the events from this one on; return which one comes next."""
        try:
            with stream:
                for event in EVENTS[number:]:
                    self._look_at_items(number, stream.send([event]), "stream events")
                    number += 1
        except KinrecError:
            self._count("broken streams")
        return number

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            yield
        except KinrecError as error:
            self._count("calls")
            self.failures.append(f"{type(error).__name__}: {error}")

    def _look_at_vector(self, number: int, answer: EncodeSequenceResult) -> None:
        self._count("calls")
        self._look(answer.model_version, answer.vector, lambda one: one.vectors[number])

    def _look_at_items(self, number: int, answer: RecommendResult, kind: str = "calls") -> None:
        self._count(kind)
        self._look(answer.model_version, _items(answer), lambda one: one.items[number])

    def _look(self, version: str, found: object, wanted: Callable[[Reference], object]) -> None:
        self._count(version)
        if found != wanted(self.references[version]):
            self.wrong.append(f"{version}: {found}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def _items(answer: RecommendResult) -> list[tuple[str, float]]:
    return [(item.item_id, item.score) for item in answer.recommendations]
