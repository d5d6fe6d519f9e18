"""From response messages to results. Pure: nothing is received here."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from google.protobuf.wrappers_pb2 import Int32Value

from kinrec.client._types import (
    Basis,
    EncodeSequenceResult,
    EventReport,
    Health,
    Model,
    Recommendation,
    RecommendResult,
    SimilarUser,
    SimilarUsersResult,
)
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

_BASES: Mapping[int, Basis] = {
    pb.BASIS_PERSONAL: Basis.PERSONAL,
    pb.BASIS_POPULAR: Basis.POPULAR,
}
# The numbers of grpc.health.v1.HealthCheckResponse.ServingStatus.
_HEALTH: Mapping[int, Health] = {1: Health.SERVING, 2: Health.NOT_SERVING}


def encode_sequence_result(data: bytes) -> EncodeSequenceResult:
    """Read an interest vector."""
    response = pb.EncodeSequenceResponse.FromString(data)
    return EncodeSequenceResult(
        vector=tuple(response.vector),
        model_version=response.model_version,
        event_report=_event_report(response.event_report),
        known_user=response.known_user,
        state=response.state,
        send_history=response.send_history,
    )


def similar_users_result(data: bytes) -> SimilarUsersResult:
    """Read similar users."""
    response = pb.SimilarUsersResponse.FromString(data)
    return SimilarUsersResult(
        similar_users=tuple(
            SimilarUser(user.user_id, user.similarity) for user in response.similar_users
        ),
        model_version=response.model_version,
        event_report=_event_report(response.event_report),
        known_user=response.known_user,
        state=response.state,
        send_history=response.send_history,
    )


def recommend_result(data: bytes) -> RecommendResult:
    """Read recommendations."""
    response = pb.RecommendResponse.FromString(data)
    return RecommendResult(
        recommendations=tuple(
            Recommendation(item.item_id, item.score, item.title)
            for item in response.recommendations
        ),
        # A later server may know a basis that this client does not.
        basis=_BASES.get(response.basis, Basis.UNSPECIFIED),
        model_version=response.model_version,
        event_report=_event_report(response.event_report),
        known_user=response.known_user,
        state=response.state,
        send_history=response.send_history,
    )


def model(data: bytes) -> Model:
    """Read the description of a model.

    Raises:
        ValueError: Its time is out of range.
    """
    response = pb.GetModelResponse.FromString(data)
    return Model(
        name=response.name,
        version=response.version,
        create_time=(
            response.create_time.ToDatetime(UTC) if response.HasField("create_time") else None
        ),
        encoder=response.encoder,
        vector_size=response.vector_size,
        user_count=response.user_count,
        item_count=response.item_count,
        event_types=tuple(response.event_types),
        max_events=response.max_events,
        max_limit=response.max_limit,
        include_seen_default=response.include_seen_default,
        carries_state=response.carries_state,
        max_state_bytes=response.max_state_bytes,
    )


def health(data: bytes) -> Health:
    """Read a grpc.health.v1.HealthCheckResponse, which is on the wire what an Int32Value is."""
    return _HEALTH.get(Int32Value.FromString(data).value, Health.UNKNOWN)


def _event_report(report: pb.EventReport) -> EventReport:
    return EventReport(
        received=report.received,
        used=report.used,
        unknown_item=report.unknown_item,
        repeated=report.repeated,
        truncated=report.truncated,
        unknown_event_type=report.unknown_event_type,
        late=report.late,
        dropped=report.dropped,
    )
