"""The recommender service: each call is translated, handed to the engine, and translated back."""

# ruff: noqa: N802, ARG002 - names and arguments of the methods are gRPC's

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from kinrec.engine import MAX_EVENTS, MAX_LIMIT, fingerprint_of
from kinrec.server import convert
from kinrec.server.states import MAX_STATE_BYTES
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1 import recommender_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine import Encoding, Event, Recommendations, SimilarUsers
    from kinrec.server.states import StateKeys

_Response = TypeVar(
    "_Response", pb.EncodeSequenceResponse, pb.SimilarUsersResponse, pb.RecommendResponse
)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RecommenderService"].full_name


class RecommenderEngine(Protocol):
    """What the server asks of an engine; `kinrec.engine.Engine` is one. Safe to call from threads."""

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str:
        """The model's version."""

    @property
    def fingerprint(self) -> bytes:
        """What tells the bundle from every other."""

    def encode(
        self, *, user_id: str = "", events: Sequence[Event] = (), state: bytes = b""
    ) -> Encoding:
        """Encode a person's behaviour."""

    def similar_users(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
    ) -> SimilarUsers:
        """Find the known users who behave most alike."""

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
        """Recommend items."""


class Engines:
    """The engine that answers, and the one before it, which answers the states it gave.

    Args:
        current: Answers all else.
        previous: None if no other answers.
        previous_until: Seconds since 1970 UTC after which the previous one answers no more.
    """

    def __init__(
        self,
        current: RecommenderEngine,
        previous: RecommenderEngine | None = None,
        previous_until: float = math.inf,
    ) -> None:
        self.current = current
        self._previous = previous
        self._until = previous_until

    def of(self, state: bytes) -> RecommenderEngine:
        """Find the engine for a state, which is the current one for none."""
        previous = self._previous
        if previous is not None and time.time() >= self._until:
            previous = self._previous = None  # its memory is of no more use
        if not state or previous is None:
            return self.current
        return previous if fingerprint_of(state) == previous.fingerprint else self.current


class RecommenderServicer(recommender_pb2_grpc.RecommenderServiceServicer):
    """Answers the calls of `kinrec.v1.RecommenderService`.

    What the engine raises passes through: the interceptor turns it into a status.
    """

    def __init__(self, engines: Engines, keys: StateKeys) -> None:
        self._engines = engines
        self._keys = keys
        self._model = convert.model_to_proto(
            engines.current.manifest,
            max_events=MAX_EVENTS,
            max_limit=MAX_LIMIT,
            max_state_bytes=MAX_STATE_BYTES,
        )

    def EncodeSequence(
        self,
        request: pb.EncodeSequenceRequest,
        context: grpc.ServicerContext,
    ) -> pb.EncodeSequenceResponse:
        """Encode a person's behaviour into a user-interest vector."""
        state = self._keys.open(request.state)
        engine = self._engines.of(state)
        encoding = engine.encode(
            user_id=request.user_id, events=convert.events_from_proto(request.events), state=state
        )
        return self._finish(convert.encoding_to_proto(encoding), engine, encoding.state)

    def SimilarUsers(
        self,
        request: pb.SimilarUsersRequest,
        context: grpc.ServicerContext,
    ) -> pb.SimilarUsersResponse:
        """Find the known users who behave most like a person."""
        state = self._keys.open(request.state)
        engine = self._engines.of(state)
        similar = engine.similar_users(
            user_id=request.user_id,
            events=convert.events_from_proto(request.events),
            state=state,
            limit=convert.limit_from_proto(request.limit),
        )
        return self._finish(convert.similar_users_to_proto(similar), engine, similar.state)

    def Recommend(
        self,
        request: pb.RecommendRequest,
        context: grpc.ServicerContext,
    ) -> pb.RecommendResponse:
        """Recommend the items that a person is most likely to want next."""
        state = self._keys.open(request.state)
        engine = self._engines.of(state)
        answer = engine.recommend(
            user_id=request.user_id,
            events=convert.events_from_proto(request.events),
            state=state,
            limit=convert.limit_from_proto(request.limit),
            include_seen=request.include_seen if request.HasField("include_seen") else None,
            exclude_item_ids=request.exclude_item_ids,
        )
        return self._finish(convert.recommendations_to_proto(answer), engine, answer.state)

    def _finish(self, response: _Response, engine: RecommenderEngine, state: bytes) -> _Response:
        """Say which model answered, and where the person stands."""
        response.model_version = engine.version
        response.state = self._keys.seal(state)
        response.send_history = engine is not self._engines.current
        return response

    def GetModel(
        self,
        request: pb.GetModelRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetModelResponse:
        """Describe the model that answers."""
        return self._model
