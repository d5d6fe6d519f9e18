"""What a caller gives and gets: events and results. Plain values, no messages, no arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person did with an item.

    Attributes:
        item_id: The item's id, as in the logs the model was trained on.
        event_type: What was done, e.g. ``"view"``; empty if unspecified.
        time: When: a datetime with a time zone, or unix seconds; None if unknown. A datetime
            without a time zone is refused when the event is sent, for it names no moment.
        value: A measure of the event, e.g. a rating. A model can be trained to leave out events with
            a low value; it changes nothing else.
    """

    item_id: str
    event_type: str = ""
    time: datetime | float | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class EventReport:
    """What became of the events of a request; each is counted once.

    It is in used, unknown_item, repeated, truncated or dropped.

    Attributes:
        received: Events in the request.
        used: Events that the answer takes into account.
        unknown_item: Events left out because the model does not know the item.
        repeated: Events left out because they repeat the item and type of the event before, or of
            an earlier one where the model takes no repeats of it.
        truncated: Oldest events beyond the model's memory. A recurrent encoder still takes them in.
        unknown_event_type: Of the used, those whose type the model does not know.
        late: Of the used, those whose time is before that of the event before.
        dropped: Events left out because the model takes none of their type or so low a value.
    """

    received: int = 0
    used: int = 0
    unknown_item: int = 0
    repeated: int = 0
    truncated: int = 0
    unknown_event_type: int = 0
    late: int = 0
    dropped: int = 0


class Basis(Enum):
    """What recommendations rest on."""

    UNSPECIFIED = "unspecified"
    """The server said nothing that this client knows."""
    PERSONAL = "personal"
    """The person's own behaviour."""
    POPULAR = "popular"
    """Nothing usable is known of the person: these are the popular items."""


class Health(Enum):
    """Whether a server takes calls, in its own words."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not serving"
    """The server starts up or drains."""


@dataclass(frozen=True, slots=True)
class EncodeSequenceResult:
    """A user-interest vector.

    Attributes:
        vector: As long as `Model.vector_size`; empty if no event was usable.
        model_version: The version of the model that answered.
        event_report: What became of the events.
        known_user: Whether a user id known to the model was given, or the state of one.
        state: To send back with the next events; empty if nothing usable is known of the person.
        send_history: Whether the state sent was of the model before, which will answer no more one
            day: better send the history than this state.
    """

    vector: tuple[float, ...]
    model_version: str
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)
    send_history: bool = False


@dataclass(frozen=True, slots=True)
class SimilarUser:
    """A known user who behaves like the person asked about.

    Attributes:
        user_id: The user's id.
        similarity: The cosine of the two users' factors, -1 to 1.
    """

    user_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class SimilarUsersResult:
    """Known users who behave like a person.

    Attributes:
        similar_users: The most similar first; empty if no event was usable.
        model_version: The version of the model that answered.
        event_report: What became of the events.
        known_user: Whether a user id known to the model was given, or the state of one.
        state: To send back with the next events; empty if nothing usable is known of the person.
        send_history: Whether the state sent was of the model before, which will answer no more one
            day: better send the history than this state.
    """

    similar_users: tuple[SimilarUser, ...]
    model_version: str
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)
    send_history: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A recommended item.

    Attributes:
        item_id: The item's id.
        score: Greater is better; comparable within one answer only.
        title: The item's title; empty if the model has none.
    """

    item_id: str
    score: float
    title: str


@dataclass(frozen=True, slots=True)
class RecommendResult:
    """Items that a person is likely to want next.

    Attributes:
        recommendations: The best first.
        basis: What they rest on.
        model_version: The version of the model that answered.
        event_report: What became of the events.
        known_user: Whether a user id known to the model was given, or the state of one.
        state: To send back with the next events; empty if nothing usable is known of the person.
        send_history: Whether the state sent was of the model before, which will answer no more one
            day: better send the history than this state.
    """

    recommendations: tuple[Recommendation, ...]
    basis: Basis
    model_version: str
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)
    send_history: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a server answers with.

    Attributes:
        name: The name of its store.
        version: Its version, as in every answer.
        create_time: When training finished, in UTC; None if the server does not say.
        encoder: The kind of encoder, e.g. ``"lstm"``.
        vector_size: The length of an interest vector.
        user_count: The number of known users.
        item_count: The number of known items.
        event_types: The event types that the model knows.
        max_events: The most events a request may have.
        max_limit: The most results a request may ask for.
        include_seen_default: Whether items of the person's own history are recommended when a
            request does not say.
        carries_state: Whether a call with a state costs the same however long the history.
        max_state_bytes: The most bytes a state may have.
    """

    name: str
    version: str
    create_time: datetime | None
    encoder: str
    vector_size: int
    user_count: int
    item_count: int
    event_types: tuple[str, ...]
    max_events: int
    max_limit: int
    include_seen_default: bool
    carries_state: bool = False
    max_state_bytes: int = 0
