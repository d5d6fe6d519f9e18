"""Makes calls from several threads until there are enough, or until one ends as it must not."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzzing.checks import GONE, Violation, check
from fuzzing.requests import Maker, calls, valid_calls
from fuzzing.service import METHODS, Call, Target
from fuzzing.values import Known
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.protobuf.message import Message
    from hypothesis.strategies import SearchStrategy

    from fuzzing.service import Outcome

_BATCH = 500  # calls of one run of hypothesis, whose memory grows with them
_TOLD = 1_000  # calls between two words on how far it is
_VALID_CALLS = 25  # of each method, for tokens
_SETTINGS = settings(
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@dataclass(slots=True)
class Report:
    """What the calls came to.

    Attributes:
        counts: The number of calls by the name of the method and by the status and the reason.
        violation: The smallest call that ended as it must not; None if all ended as they may.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    violation: Violation | None = None


def learn(address: str) -> Maker:
    """Find out by a few calls what a server knows, and what tokens it gives."""
    target = Target(address)
    by_name = {method.name: method for method in METHODS}

    def ask(request: Message) -> Message:
        name = type(request).__name__.removesuffix("Request")
        outcome = target.send(Call(by_name[name], (request.SerializeToString(),)))
        return outcome.answers[0]

    try:
        model = ask(pb.GetModelRequest())
        nothing = pb.Event(item_id="\N{NO ENTRY SIGN} not an item")
        popular = ask(pb.RecommendRequest(events=[nothing], limit=50)).recommendations
        events = [pb.Event(item_id=item.item_id) for item in popular[:5]]
        users = ask(pb.SimilarUsersRequest(events=events, limit=20)).similar_users
        known = Known(
            {
                "user": [user.user_id for user in users],
                "item": [item.item_id for item in popular],
                "type": list(model.event_types),
                "attribute": [attribute.name for attribute in model.attributes],
            }
        )
        maker = Maker(known)

        def collect(call: Call) -> None:
            maker.collect(call, target.send(call).answers)

        for user in users[:5]:  # of whom there is a next page to ask for
            request = pb.RecommendRequest(user_id=user.user_id, limit=5)
            collect(Call(by_name["Recommend"], (request.SerializeToString(),)))
        given_calls = valid_calls(Maker(known))  # its own tokens are none: what is drawn is fixed
        _run(collect, given_calls, 0, _VALID_CALLS * len(METHODS))
    finally:
        target.close()
    return maker


def attack(
    address: str,
    maker: Maker,
    *,
    count: int,
    seed_number: int,
    threads: int,
    tell: Callable[[int], object] | None = None,
) -> Report:
    """Make hostile calls.

    Args:
        address: The server.
        maker: What `learn` gave.
        count: How many, if all end as they may.
        seed_number: The same number makes the same calls of each thread.
        threads: Callers at once, each with a connection of its own.
        tell: Is told after every 1,000 calls how many were made.
    """
    attack = _Attack(address, maker, tell)
    batches = [_batches(seed_number, place, threads, count) for place in range(threads)]
    with ThreadPoolExecutor(threads, "fuzz") as pool:
        list(pool.map(attack.run, batches))
    return attack.report


class _Attack:
    """What the threads share."""

    def __init__(
        self, address: str, maker: Maker, tell: Callable[[int], object] | None = None
    ) -> None:
        self.report = Report()
        self._address = address
        self._calls = calls(maker)
        self._tell = tell
        self._lock = threading.Lock()

    def run(self, batches: Iterable[tuple[int, int]]) -> None:
        """Make the calls of one thread; end early when any thread has found a violation."""
        target = Target(self._address)
        found: list[Violation] = []

        def attempt(call: Call) -> None:
            outcome = target.send(call)
            self._count(call, outcome)
            try:
                check(call, outcome)
            except Violation as violation:
                found.append(violation)
                raise

        try:
            for number, size in batches:
                if self.report.violation is None:
                    _run(attempt, self._calls, number, size)
        except Exception:
            if not found:
                raise
            # The last that hypothesis tried is the smallest; after a crash of the server each call fails.
            worst = found[0] if found[0].what == GONE else found[-1]
            self.report.violation = self.report.violation or worst
        finally:
            target.close()

    def _count(self, call: Call, outcome: Outcome) -> None:
        with self._lock:
            self.report.counts[call.method.name, f"{outcome.code.name} {outcome.reason}"] += 1
            done = self.report.counts.total()
            if self._tell and done % _TOLD == 0:
                self._tell(done)


def _batches(seed_number: int, place: int, threads: int, count: int) -> Iterator[tuple[int, int]]:
    """The seed and the size of each run of hypothesis of one thread."""
    left = count // threads + (place < count % threads)
    number = seed_number * 1_000_003 + place
    while left > 0:
        size = min(_BATCH, left)
        yield number, size
        left -= size
        number += threads


def _run(
    attempt: Callable[[Call], None], strategy: SearchStrategy[Call], number: int, size: int
) -> None:
    """Let hypothesis make so many calls, and make one that fails smaller."""

    @seed(number)
    @settings(_SETTINGS, max_examples=size)
    @given(strategy)
    def run(call: Call) -> None:
        attempt(call)

    run()
