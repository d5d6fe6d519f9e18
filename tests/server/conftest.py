"""A real server on a free port around an engine that does as it is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import Encoder, EventSpec, EventType, Manifest
from kinrec.engine import Basis, Encoding, EventReport, Recommendations, SimilarUsers
from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.servicer import Engines
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kinrec.engine import Event


class StandInEngine:
    """Notes what it is asked, raises `failure` if there is one, and answers when `gate` is open."""

    name = "stand-in"

    def __init__(self, version: str = "v1") -> None:
        self.version = version
        self.fingerprint = version.encode().ljust(16, b".")
        self.state = b"kst1" + self.fingerprint + bytes(16)
        self.asked: list[dict[str, object]] = []
        self.failure: BaseException | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.manifest = Manifest(
            name=self.name,
            version=self.version,
            user_count=3,
            item_count=5,
            encoder=Encoder(kind="lstm", vector_size=4),
            event_spec=EventSpec(
                event_types=[EventType(name="view", weight=1)], include_seen_default=True
            ),
        )

    def encode(
        self, *, user_id: str = "", events: Sequence[Event] = (), state: bytes = b""
    ) -> Encoding:
        """Answer with four numbers."""
        self._ask(user_id=user_id, events=list(events), state=state)
        vector = np.arange(4, dtype=np.float32)
        report = EventReport(9, 1, 2, 3, 1, 1, 0, 2)
        return Encoding(vector, report, known_user=True, state=self.state)

    def similar_users(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
    ) -> SimilarUsers:
        """Answer with two users."""
        self._ask(user_id=user_id, events=list(events), state=state, limit=limit)
        return SimilarUsers(["a", "b"], [0.5, -0.25], EventReport(), False, self.state)

    def recommend(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
        include_seen: bool | None = None,
        exclude_item_ids: Sequence[str] = (),
    ) -> Recommendations:
        """Answer with two items."""
        self._ask(
            user_id=user_id,
            events=list(events),
            state=state,
            limit=limit,
            include_seen=include_seen,
            exclude_item_ids=list(exclude_item_ids),
        )
        return Recommendations(
            ["i1", "i2"], [2.0, 1.0], ["One", ""], Basis.POPULAR, EventReport(), False, self.state
        )

    def _ask(self, **question: object) -> None:
        self.asked.append(question)
        self.entered.set()
        assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def engine() -> StandInEngine:
    """An engine that does as it is told."""
    return StandInEngine()


@pytest.fixture
def start_server() -> Iterator[Callable[..., RecommenderServer]]:
    """Start servers on free ports; they are stopped at the end."""
    servers: list[RecommenderServer] = []

    def start(engine: StandInEngine, **settings: float) -> RecommenderServer:
        server = RecommenderServer(Engines(engine), ServerConfig(port=0, **settings))
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        assert server.stop(0).wait(10)


@pytest.fixture
def open_channel() -> Iterator[Callable[[RecommenderServer], grpc.Channel]]:
    """Open channels, each with a connection of its own; they are closed at the end."""
    channels: list[grpc.Channel] = []

    def connect(server: RecommenderServer) -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels.append(grpc.insecure_channel(server.address, options))
        return channels[-1]

    yield connect
    for channel in channels:
        channel.close()


@pytest.fixture
def channel(engine, start_server, open_channel) -> grpc.Channel:
    """A channel to a server around `engine`."""
    return open_channel(start_server(engine))


@pytest.fixture
def stub(channel) -> RecommenderServiceStub:
    """The recommender service of a server around `engine`."""
    return RecommenderServiceStub(channel)
