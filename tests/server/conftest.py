"""A real server on a free port around an engine that does as it is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import Encoder, EventSpec, EventType, Manifest
from kinrec.engine import (
    Basis,
    Encoding,
    EngineError,
    EventReport,
    Options,
    Ranking,
    Reason,
    Recommendations,
    SimilarItems,
    SimilarUsers,
)
from kinrec.server.app import RecommenderServer
from kinrec.server.config import ServerConfig
from kinrec.server.engines import Engines
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kinrec.engine import Condition, Event, Query


REASON = Reason({"transitions": 0.25, "sequence": 0.75}, 7, [("u9", 0.4789)], [("i3", 1.0)])


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

    @property
    def ranking(self) -> bytes:
        """As the fingerprint."""
        return self.fingerprint

    def encode(
        self, *, user_id: str = "", events: Sequence[Event] = (), state: bytes = b""
    ) -> Encoding:
        """Answer with four numbers."""
        self._ask(user_id=user_id, events=list(events), state=state)
        vector = np.arange(4, dtype=np.float32)
        report = EventReport(9, 1, 2, 3, 1, 1, 0, 2)
        return Encoding(vector, report, known_user=True, state=self.state)

    def encode_for(self, query: Query, then: Callable[[Encoding], Any]) -> Any:
        """Answer as above."""
        return then(self.encode(user_id=query.user_id, events=query.events, state=query.state))

    def encode_many(self, queries: Sequence[Query]) -> list[Encoding | EngineError]:
        """Answer each as alone."""
        return [
            self._or_error(self.encode, user_id=one.user_id, events=one.events, state=one.state)
            for one in queries
        ]

    def similar_users(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
        **how: object,
    ) -> SimilarUsers:
        """Answer with two users."""
        usual = {"shared_items": 0, "search_effort": 1, "exact": False}
        how = {name: value for name, value in how.items() if value != usual[name]}
        self._ask(user_id=user_id, events=list(events), state=state, limit=limit, **how)
        shared = [["i1"], []] if "shared_items" in how else []
        return SimilarUsers(["a", "b"], [0.5, -0.25], EventReport(), False, self.state, shared)

    def answer(self, query: Query) -> Recommendations:
        """Answer with two items, and more behind them."""
        changed = {} if query.options == Options() else {"options": query.options}
        self._ask(
            user_id=query.user_id,
            events=list(query.events),
            state=query.state,
            limit=query.limit,
            include_seen=query.include_seen,
            exclude_item_ids=list(query.exclude_item_ids),
            **changed,
        )
        reasons = [REASON, REASON._replace(voters=2)] if query.options.reasons else []
        return Recommendations(
            ["i1", "i2"],
            [2.0, 1.0],
            ["One", ""],
            Basis.POPULAR,
            EventReport(),
            False,
            self.state,
            allowed=2 if query.options.allow_item_ids else None,
            more=query.limit == 2,
            reasons=reasons,
        )

    def recommend_for(self, query: Query, then: Callable[[Recommendations], Any]) -> Any:
        """Answer as above."""
        return then(self.answer(query))

    def recommend_many(self, queries: Sequence[Query]) -> list[Recommendations | EngineError]:
        """Answer each as alone."""
        return [self._or_error(self.answer, one) for one in queries]

    def rank(self, item_ids: Sequence[str], **question: object) -> Ranking:
        """Know the first item alone."""
        self._ask(item_ids=list(item_ids), **question)
        known = Recommendations(
            [item_ids[0]], [1.0], ["One"], Basis.PERSONAL, EventReport(), True, self.state
        )
        return Ranking(known, list(item_ids[1:]))

    def similar_items(
        self,
        item_id: str,
        *,
        limit: int = 10,
        allow_item_ids: Sequence[str] = (),
        conditions: Sequence[Condition] = (),
    ) -> SimilarItems:
        """Answer with one item."""
        self._ask(
            item_id=item_id, limit=limit, allow=list(allow_item_ids), conditions=list(conditions)
        )
        return SimilarItems(["i2"], [0.5], ["Two"], 3)

    @staticmethod
    def _or_error(ask: Callable[..., object], *asked: object, **named: object) -> Any:
        try:
            return ask(*asked, **named)
        except EngineError as error:
            return error

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
def start_server_of() -> Iterator[Callable[..., RecommenderServer]]:
    """Start servers of engines on free ports; they are stopped at the end."""
    servers: list[RecommenderServer] = []

    def start(engines: Engines, **settings: float) -> RecommenderServer:
        server = RecommenderServer(engines, ServerConfig(port=0, **settings))
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        assert server.stop(0).wait(10)


@pytest.fixture
def start_server(start_server_of) -> Callable[..., RecommenderServer]:
    """Start servers of one engine each."""
    return lambda engine, **settings: start_server_of(Engines(engine), **settings)


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
