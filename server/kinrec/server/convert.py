"""Between the messages of the wire and the engine's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinrec.engine import MAX_EVENTS, Basis, Event, InvalidFieldError
from kinrec.v1 import recommender_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized
    from typing import Protocol

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine import Encoding, EventReport, Recommendations, SimilarUsers

    class EventMessages(Iterable[pb.Event], Sized, Protocol):
        """A repeated field of events."""


DEFAULT_LIMIT = 10

# google.protobuf.Timestamp: the years 1 to 9999, nanoseconds always counted forward.
_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799
_MAX_NANOS = 999_999_999

_BASIS = {Basis.PERSONAL: pb.BASIS_PERSONAL, Basis.POPULAR: pb.BASIS_POPULAR}


def events_from_proto(messages: EventMessages) -> list[Event]:
    """Convert the events of a request.

    Raises:
        InvalidFieldError: There are too many events, or a time is out of range.
    """
    if len(messages) > MAX_EVENTS:  # refused here so that a flood is not converted first
        raise InvalidFieldError("events", f"at most {MAX_EVENTS} are allowed, got {len(messages)}")
    # This loop is the dearest part of a call outside the engine. Building the tuple directly takes
    # half the time of Event(...); asking for the seconds first saves most presence checks.
    new = tuple.__new__
    events: list[Event] = []
    for message in messages:
        time = None
        stamp = message.time
        seconds = stamp.seconds
        if seconds or message.HasField("time"):
            nanos = stamp.nanos
            if not (_MIN_SECONDS <= seconds <= _MAX_SECONDS and 0 <= nanos <= _MAX_NANOS):
                raise InvalidFieldError(
                    f"events[{len(events)}].time", "must lie in the years 1 to 9999"
                )
            time = seconds + nanos * 1e-9
        value = message.value if message.HasField("value") else None
        events.append(new(Event, (message.item_id, message.event_type, time, value)))
    return events


def limit_from_proto(limit: int) -> int:
    """The number of results asked for; zero asks for the default."""
    return limit or DEFAULT_LIMIT


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
    for user_id, similarity in zip(similar.user_ids, similar.similarities, strict=True):
        add(user_id=user_id, similarity=similarity)
    return response


def recommendations_to_proto(answer: Recommendations) -> pb.RecommendResponse:
    """Convert recommendations."""
    response = pb.RecommendResponse(
        event_report=_report_to_proto(answer.event_report),
        known_user=answer.known_user,
        basis=_BASIS[answer.basis],
    )
    add = response.recommendations.add
    for item_id, score, title in zip(answer.item_ids, answer.scores, answer.titles, strict=True):
        add(item_id=item_id, score=score, title=title)
    return response


def model_to_proto(
    manifest: Manifest, *, max_events: int, max_limit: int, max_state_bytes: int
) -> pb.GetModelResponse:
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
        max_events=max_events,
        max_limit=max_limit,
        include_seen_default=manifest.event_spec.include_seen_default,
        carries_state=manifest.encoder.carries_state,
        max_state_bytes=max_state_bytes,
    )


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
