"""From response messages to results. Pure: nothing is received here."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from google.protobuf.wrappers_pb2 import Int32Value

from kinrec.client._errors import error_of_failure
from kinrec.client._types import (
    Attribute,
    AttributeKind,
    Basis,
    EncodeSequenceResult,
    EventReport,
    Health,
    Model,
    OwnItem,
    RankResult,
    Reason,
    Recommendation,
    RecommendResult,
    SimilarItem,
    SimilarItemsResult,
    SimilarUser,
    SimilarUsersResult,
    Source,
    SourceShare,
    Voter,
)
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kinrec.client._errors import KinrecError

_BASES: Mapping[int, Basis] = {
    pb.BASIS_PERSONAL: Basis.PERSONAL,
    pb.BASIS_POPULAR: Basis.POPULAR,
}
_SOURCES: Mapping[int, Source] = {
    pb.SOURCE_SEQUENCE: Source.SEQUENCE,
    pb.SOURCE_SIMILAR_USERS: Source.SIMILAR_USERS,
    pb.SOURCE_FACTORS: Source.FACTORS,
    pb.SOURCE_TRANSITIONS: Source.TRANSITIONS,
    pb.SOURCE_HISTORY: Source.HISTORY,
    pb.SOURCE_POPULARITY: Source.POPULARITY,
}
_KINDS: Mapping[int, AttributeKind] = {
    pb.Attribute.KIND_TEXT: AttributeKind.TEXT,
    pb.Attribute.KIND_NUMBER: AttributeKind.NUMBER,
    pb.Attribute.KIND_TIME: AttributeKind.TIME,
}
# The numbers of grpc.health.v1.HealthCheckResponse.ServingStatus.
_HEALTH: Mapping[int, Health] = {1: Health.SERVING, 2: Health.NOT_SERVING}


class StreamEnd(NamedTuple):
    """The last message of a stream.

    Attributes:
        state: Where the person stands.
    """

    state: bytes


def encode_sequence_result(data: bytes) -> EncodeSequenceResult:
    """Read an interest vector."""
    return _encoding(pb.EncodeSequenceResponse.FromString(data))


def similar_users_result(data: bytes) -> SimilarUsersResult:
    """Read similar users."""
    response = pb.SimilarUsersResponse.FromString(data)
    return SimilarUsersResult(
        similar_users=tuple(
            SimilarUser(user.user_id, user.similarity, tuple(user.shared_item_ids))
            for user in response.similar_users
        ),
        **_of_person(response),
    )


def recommend_result(data: bytes) -> RecommendResult:
    """Read recommendations."""
    return _recommended(pb.RecommendResponse.FromString(data))


def rank_result(data: bytes) -> RankResult:
    """Read a ranking."""
    response = pb.RankResponse.FromString(data)
    return RankResult(
        recommendations=_recommendations(response.recommendations),
        unknown_item_ids=tuple(response.unknown_item_ids),
        basis=_BASES.get(response.basis, Basis.UNSPECIFIED),
        **_of_person(response),
    )


def similar_items_result(data: bytes) -> SimilarItemsResult:
    """Read similar items."""
    response = pb.SimilarItemsResponse.FromString(data)
    return SimilarItemsResult(
        similar_items=tuple(
            SimilarItem(item.item_id, item.similarity, item.title)
            for item in response.similar_items
        ),
        model_version=response.model_version,
        allowed_item_count=_allowed(response),
    )


def batch_encode_results(data: bytes) -> list[EncodeSequenceResult | KinrecError]:
    """Read many vectors, and the errors of those that have none.

    Raises:
        ValueError: A result is neither.
    """
    found: list[EncodeSequenceResult | KinrecError] = []
    for result in pb.BatchEncodeResponse.FromString(data).results:
        _check_result(result)
        is_failure = result.HasField("failure")
        found.append(error_of_failure(result.failure) if is_failure else _encoding(result.response))
    return found


def batch_recommend_results(data: bytes) -> list[RecommendResult | KinrecError]:
    """Read many people's recommendations, and the errors of those that have none.

    Raises:
        ValueError: A result is neither.
    """
    found: list[RecommendResult | KinrecError] = []
    for result in pb.BatchRecommendResponse.FromString(data).results:
        _check_result(result)
        is_failure = result.HasField("failure")
        found.append(
            error_of_failure(result.failure) if is_failure else _recommended(result.response)
        )
    return found


def stream_part(data: bytes) -> RecommendResult | KinrecError | StreamEnd:
    """Read a message of a stream.

    Raises:
        ValueError: It is none that this client knows.
    """
    message = pb.RecommendStreamResponse.FromString(data)
    match message.WhichOneof("part"):
        case "response":
            return _recommended(message.response)
        case "failure":
            return error_of_failure(message.failure)
        case "end":
            return StreamEnd(message.end.state)
        case _:
            raise ValueError("neither a response nor a failure nor the end")


def _check_result(result: pb.EncodeResult | pb.RecommendResult) -> None:
    if result.WhichOneof("result") is None:
        raise ValueError("neither a response nor a failure")


def _encoding(response: pb.EncodeSequenceResponse) -> EncodeSequenceResult:
    return EncodeSequenceResult(
        vector=tuple(response.vector),
        **_of_person(response),
    )


def _recommended(response: pb.RecommendResponse) -> RecommendResult:
    return RecommendResult(
        recommendations=_recommendations(response.recommendations),
        # A later server may know a basis that this client does not.
        basis=_BASES.get(response.basis, Basis.UNSPECIFIED),
        **_of_person(response),
        allowed_item_count=_allowed(response),
        next_page_token=response.next_page_token,
    )


def _recommendations(items: Iterable[pb.Recommendation]) -> tuple[Recommendation, ...]:
    return tuple(
        Recommendation(
            item.item_id,
            item.score,
            item.title,
            _reason(item.reason) if item.HasField("reason") else None,
        )
        for item in items
    )


def _reason(reason: pb.Reason) -> Reason:
    return Reason(
        sources=tuple(
            SourceShare(_SOURCES.get(one.source, Source.UNSPECIFIED), one.share)
            for one in reason.sources
        ),
        voter_count=reason.voter_count,
        voters=tuple(Voter(one.pseudonym, one.similarity) for one in reason.voters),
        own_items=tuple(OwnItem(one.item_id, one.share) for one in reason.own_items),
    )


def _allowed(response: pb.RecommendResponse | pb.SimilarItemsResponse) -> int | None:
    return response.allowed_item_count if response.HasField("allowed_item_count") else None


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
        attributes=tuple(
            Attribute(one.name, _KINDS.get(one.kind, AttributeKind.UNSPECIFIED))
            for one in response.attributes
        ),
        max_requests=response.max_requests,
    )


def health(data: bytes) -> Health:
    """Read a grpc.health.v1.HealthCheckResponse, which is on the wire what an Int32Value is."""
    return _HEALTH.get(Int32Value.FromString(data).value, Health.UNKNOWN)


class _OfPerson(TypedDict):
    """The fields of a PersonResult."""

    model_version: str
    event_report: EventReport
    known_user: bool
    state: bytes
    send_history: bool
    variant: str


def _of_person(
    response: pb.EncodeSequenceResponse
    | pb.SimilarUsersResponse
    | pb.RecommendResponse
    | pb.RankResponse,
) -> _OfPerson:
    return _OfPerson(
        model_version=response.model_version,
        event_report=_event_report(response.event_report),
        known_user=response.known_user,
        state=response.state,
        send_history=response.send_history,
        variant=response.variant,
    )


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
