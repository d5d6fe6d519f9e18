"""From the engine's own types to the messages of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from kinrec.bundle.v1 import manifest_pb2
from kinrec.engine import (
    MAX_EVENTS,
    MAX_LIMIT,
    MAX_REQUESTS,
    Basis,
)
from kinrec.engine.sources import (
    FACTORS,
    HISTORY,
    POPULARITY,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
)
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine import (
        Encoding,
        EventReport,
        Ranking,
        Reason,
        Recommendations,
        SimilarItems,
        SimilarUsers,
    )
    from kinrec.server.errors import Failure

    RecommendationMessages = RepeatedCompositeFieldContainer[pb.Recommendation]


_BASIS = {Basis.PERSONAL: pb.BASIS_PERSONAL, Basis.POPULAR: pb.BASIS_POPULAR}
_SOURCES = {
    SEQUENCE: pb.SOURCE_SEQUENCE,
    SIMILAR_USERS: pb.SOURCE_SIMILAR_USERS,
    FACTORS: pb.SOURCE_FACTORS,
    TRANSITIONS: pb.SOURCE_TRANSITIONS,
    HISTORY: pb.SOURCE_HISTORY,
    POPULARITY: pb.SOURCE_POPULARITY,
}
_KINDS = {
    manifest_pb2.Attribute.KIND_TEXT: pb.Attribute.KIND_TEXT,
    manifest_pb2.Attribute.KIND_NUMBER: pb.Attribute.KIND_NUMBER,
    manifest_pb2.Attribute.KIND_TIME: pb.Attribute.KIND_TIME,
}


@dataclass(frozen=True, slots=True)
class ReasonPolicy:
    """What may be said of other people in a reason.

    Attributes:
        min_voters: How many must have voted for them to be told of; 0 to tell of none.
        pseudonym: From a user's id to a name that does not give it away.
    """

    min_voters: int
    pseudonym: Callable[[str], str]

    def tells_of(self, voters: int) -> bool:
        """Whether so many voters are told of."""
        return 0 < self.min_voters <= voters


def encoding_to_proto(encoding: Encoding) -> pb.EncodeSequenceResponse:
    """Convert an encoding."""
    return pb.EncodeSequenceResponse(
        vector=encoding.vector.tolist(),
        event_report=_report_to_proto(encoding.event_report),
        known_user=encoding.known_user,
    )


def similar_users_to_proto(similar: SimilarUsers) -> pb.SimilarUsersResponse:
    """Convert similar users."""
    response = pb.SimilarUsersResponse(
        event_report=_report_to_proto(similar.event_report),
        known_user=similar.known_user,
    )
    add = response.similar_users.add
    shared = similar.shared_item_ids or [[]] * len(similar.user_ids)
    for user_id, similarity, items in zip(
        similar.user_ids, similar.similarities, shared, strict=True
    ):
        add(user_id=user_id, similarity=similarity, shared_item_ids=items)
    return response


def recommendations_to_proto(answer: Recommendations, policy: ReasonPolicy) -> pb.RecommendResponse:
    """Convert recommendations."""
    response = pb.RecommendResponse(
        event_report=_report_to_proto(answer.event_report),
        known_user=answer.known_user,
        basis=_BASIS[answer.basis],
        allowed_item_count=answer.allowed,
    )
    _add_recommendations(response.recommendations, answer, policy)
    return response


def ranking_to_proto(ranking: Ranking, policy: ReasonPolicy) -> pb.RankResponse:
    """Convert a ranking."""
    answer = ranking.recommendations
    response = pb.RankResponse(
        unknown_item_ids=ranking.unknown_item_ids,
        event_report=_report_to_proto(answer.event_report),
        known_user=answer.known_user,
        basis=_BASIS[answer.basis],
    )
    _add_recommendations(response.recommendations, answer, policy)
    return response


def _add_recommendations(
    messages: RecommendationMessages, answer: Recommendations, policy: ReasonPolicy
) -> None:
    add = messages.add
    for item_id, score, title in zip(answer.item_ids, answer.scores, answer.titles, strict=True):
        add(item_id=item_id, score=score, title=title)
    if not answer.reasons:
        return
    pseudonym = cache(policy.pseudonym)  # who votes for one item often does for another
    for message, reason in zip(messages, answer.reasons, strict=False):
        _fill(message.reason, reason, policy, pseudonym)


def _fill(
    message: pb.Reason, reason: Reason, policy: ReasonPolicy, pseudonym: Callable[[str], str]
) -> None:
    # Each part is made where it belongs: to make it elsewhere and copy it takes twice as long.
    message.SetInParent()
    add_source = message.sources.add
    for name, share in sorted(reason.sources.items(), key=lambda pair: -pair[1]):
        add_source(source=_SOURCES[name], share=share)
    add_item = message.own_items.add
    for item_id, share in reason.events:
        add_item(item_id=item_id, share=share)
    if policy.tells_of(reason.voters):
        message.voter_count = reason.voters
        add_voter = message.voters.add
        for user_id, similarity in reason.neighbours:
            # Rounded: exact, it would say which of the users that SimilarUsers names it is.
            add_voter(pseudonym=pseudonym(user_id), similarity=round(similarity, 1))


def failure_to_proto(failure: Failure) -> pb.Failure:
    """Convert the failure of one of many requests."""
    return pb.Failure(
        code=failure.code.value[0],
        reason=pb.ErrorReason.Value(f"ERROR_REASON_{failure.reason}"),
        message=failure.message,
        field=failure.field,
    )


def similar_items_to_proto(similar: SimilarItems) -> pb.SimilarItemsResponse:
    """Convert similar items."""
    response = pb.SimilarItemsResponse(allowed_item_count=similar.allowed)
    add = response.similar_items.add
    for item_id, similarity, title in zip(
        similar.item_ids, similar.similarities, similar.titles, strict=True
    ):
        add(item_id=item_id, similarity=similarity, title=title)
    return response


def model_to_proto(manifest: Manifest, *, max_state_bytes: int) -> pb.GetModelResponse:
    """Describe the model of a manifest."""
    return pb.GetModelResponse(
        name=manifest.name,
        version=manifest.version,
        create_time=manifest.create_time,
        encoder=manifest.encoder.kind,
        vector_size=manifest.encoder.vector_size,
        user_count=manifest.user_count,
        item_count=manifest.item_count,
        event_types=[event_type.name for event_type in manifest.event_spec.event_types],
        max_events=MAX_EVENTS,
        max_limit=MAX_LIMIT,
        include_seen_default=manifest.event_spec.include_seen_default,
        carries_state=manifest.encoder.carries_state,
        max_state_bytes=max_state_bytes,
        attributes=[
            pb.Attribute(name=one.name, kind=_KINDS[one.kind]) for one in manifest.attributes
        ],
        max_requests=MAX_REQUESTS,
    )


@lru_cache(maxsize=256)  # many are alike, and the message that takes one in copies it
def _report_to_proto(report: EventReport) -> pb.EventReport:
    received, used, unknown_item, repeated, truncated, unknown_event_type, late, dropped = report
    return pb.EventReport(
        received=received,
        used=used,
        unknown_item=unknown_item,
        repeated=repeated,
        truncated=truncated,
        unknown_event_type=unknown_event_type,
        late=late,
        dropped=dropped,
    )
