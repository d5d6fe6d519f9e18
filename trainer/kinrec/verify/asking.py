"""Asks for answers: an engine in this process or a live server, for sequences whole or in parts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from kinrec import client
from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.verify.comparing import TOP, Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from kinrec.engine import Engine, Event

STEPS = 3  # the last events of a carried sequence, which come one by one
TIMEOUT = 30.0


class ServedVersionError(Exception):
    """A server answers with another bundle. The text is one line that names both versions."""


class Encoded(NamedTuple):
    """A vector, and the state to go on from."""

    vector: NDArray[np.float32]
    state: bytes


class Recommended(NamedTuple):
    """The best items and their scores, and the state to go on from."""

    top: tuple[str, ...]
    scores: tuple[float, ...]
    state: bytes


class Asks(Protocol):
    """What answers for a bundle."""

    def encode(self, events: Sequence[Event], state: bytes = b"") -> Encoded:
        """Encode events that come after a state."""
        ...

    def recommend(self, events: Sequence[Event], state: bytes = b"") -> Recommended:
        """Recommend after events that come after a state."""
        ...


class AskEngine:
    """Asks an engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def encode(self, events: Sequence[Event], state: bytes = b"") -> Encoded:
        """Encode; see Asks."""
        answer = self._engine.encode(events=events, state=state)
        return Encoded(answer.vector, answer.state)

    def recommend(self, events: Sequence[Event], state: bytes = b"") -> Recommended:
        """Recommend; see Asks."""
        answer = self._engine.recommend(events=events, state=state, limit=TOP)
        return Recommended(tuple(answer.item_ids), tuple(answer.scores), answer.state)


class AskServer:
    """Asks a live server through the SDK. Threads may share it.

    Args:
        sdk: The client.
        version: The version that must answer.

    Raises:
        ServedVersionError: In each method: another version has answered.
        KinrecError: In each method: the call failed.
    """

    def __init__(self, sdk: client.Client, version: str) -> None:
        self._sdk = sdk
        self._version = version
        self._check(sdk.get_model().version)

    def encode(self, events: Sequence[Event], state: bytes = b"") -> Encoded:
        """Encode; see Asks."""
        answer = self._sdk.encode_sequence(_sendable(events), state=state)
        self._check(answer.model_version)
        return Encoded(np.array(answer.vector, np.float32), answer.state)

    def recommend(self, events: Sequence[Event], state: bytes = b"") -> Recommended:
        """Recommend; see Asks."""
        answer = self._sdk.recommend(_sendable(events), state=state, limit=TOP)
        self._check(answer.model_version)
        found = answer.recommendations
        top, scores = (tuple(item.item_id for item in found), tuple(item.score for item in found))
        return Recommended(top, scores, answer.state)

    def _check(self, served: str) -> None:
        if served != self._version:
            raise ServedVersionError(f"serves version {served!r}, the bundle is {self._version!r}")


def ask_whole(asks: Asks, events: Sequence[Event]) -> Answer:
    """Ask with all events at once."""
    found = asks.recommend(events)
    return Answer(asks.encode(events).vector, found.top, found.scores)


def ask_carried(asks: Asks, events: Sequence[Event]) -> Answer:
    """Ask with the events up to the last few, then with each of these, and then with the state alone."""
    first = max(1, len(events) - STEPS)
    state = asks.encode(events[:first]).state
    found = Recommended((), (), state)
    for place in range(first, len(events)):
        found = asks.recommend(events[place : place + 1], state)
        state = found.state
    if not state:  # no event was taken, which is compared as no answer
        return Answer(np.zeros(0, np.float32), ())
    if not found.top:
        found = asks.recommend([], state)
    return Answer(asks.encode([], state).vector, found.top, found.scores)


@contextlib.contextmanager
def serve(engine: Engine) -> Iterator[str]:
    """Start a server on a free port of this machine and give its address.

    Raises:
        PortError: There is none.
    """
    server = RecommenderServer(Engines(engine), ServerConfig(port=0))
    server.start()
    try:
        yield server.address
    finally:
        server.stop(0.0).wait()


def _sendable(events: Sequence[Event]) -> list[client.Event]:
    return [client.Event(*event) for event in events]
