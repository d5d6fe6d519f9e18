"""The recommender service: each call is translated, handed to the engine, and translated back."""

# ruff: noqa: N802, ARG002 - names and arguments of the methods are gRPC's

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kinrec.engine import MAX_EVENTS, MAX_LIMIT
from kinrec.server import convert
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1 import recommender_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine import Encoding, Event, Recommendations, SimilarUsers

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

    def encode(self, *, user_id: str = "", events: Sequence[Event] = ()) -> Encoding:
        """Encode a person's behaviour."""

    def similar_users(
        self, *, user_id: str = "", events: Sequence[Event] = (), limit: int = 10
    ) -> SimilarUsers:
        """Find the known users who behave most alike."""

    def recommend(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        limit: int = 10,
        include_seen: bool | None = None,
        exclude_item_ids: Sequence[str] = (),
    ) -> Recommendations:
        """Recommend items."""


class RecommenderServicer(recommender_pb2_grpc.RecommenderServiceServicer):
    """Answers the calls of `kinrec.v1.RecommenderService`.

    What the engine raises passes through: the interceptor turns it into a status.
    """

    def __init__(self, engine: RecommenderEngine) -> None:
        self._engine = engine
        self._version = engine.version
        self._model = convert.model_to_proto(
            engine.manifest, max_events=MAX_EVENTS, max_limit=MAX_LIMIT
        )

    def EncodeSequence(
        self,
        request: pb.EncodeSequenceRequest,
        context: grpc.ServicerContext,
    ) -> pb.EncodeSequenceResponse:
        """Encode a person's behaviour into a user-interest vector."""
        encoding = self._engine.encode(
            user_id=request.user_id, events=convert.events_from_proto(request.events)
        )
        return convert.encoding_to_proto(encoding, self._version)

    def SimilarUsers(
        self,
        request: pb.SimilarUsersRequest,
        context: grpc.ServicerContext,
    ) -> pb.SimilarUsersResponse:
        """Find the known users who behave most like a person."""
        similar = self._engine.similar_users(
            user_id=request.user_id,
            events=convert.events_from_proto(request.events),
            limit=convert.limit_from_proto(request.limit),
        )
        return convert.similar_users_to_proto(similar, self._version)

    def Recommend(
        self,
        request: pb.RecommendRequest,
        context: grpc.ServicerContext,
    ) -> pb.RecommendResponse:
        """Recommend the items that a person is most likely to want next."""
        answer = self._engine.recommend(
            user_id=request.user_id,
            events=convert.events_from_proto(request.events),
            limit=convert.limit_from_proto(request.limit),
            include_seen=request.include_seen if request.HasField("include_seen") else None,
            exclude_item_ids=request.exclude_item_ids,
        )
        return convert.recommendations_to_proto(answer, self._version)

    def GetModel(
        self,
        request: pb.GetModelRequest,
        context: grpc.ServicerContext,
    ) -> pb.GetModelResponse:
        """Describe the model that answers."""
        return self._model
