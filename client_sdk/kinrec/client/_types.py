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


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonResult:
    """What every answer about a person says.

    Attributes:
        model_version: The version of the model that answered.
        event_report: What became of the events.
        known_user: Whether a user id known to the model was given, or the state of one.
        state: To send back with the next events; empty if nothing usable is known of the person.
        send_history: Whether the state sent was of the model before, which will answer no more one
            day: better send the history than this state.
        variant: The person's variant in the running experiment; empty without one, or a user id.
    """

    model_version: str
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)
    send_history: bool = False
    variant: str = ""


@dataclass(frozen=True, slots=True)
class EncodeSequenceResult(PersonResult):
    """A user-interest vector, and what `PersonResult` has.

    Attributes:
        vector: As long as `Model.vector_size`; empty if no event was usable.
    """

    vector: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SimilarUser:
    """A known user who behaves like the person asked about.

    Attributes:
        user_id: The user's id.
        similarity: The cosine of the two users' factors, -1 to 1.
        shared_item_ids: Items that both did something with, those that the person did last first;
            empty unless asked for.
    """

    user_id: str
    similarity: float
    shared_item_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SimilarUsersResult(PersonResult):
    """Known users who behave like a person, and what `PersonResult` has.

    Attributes:
        similar_users: The most similar first; empty if no event was usable.
    """

    similar_users: tuple[SimilarUser, ...]


class Source(Enum):
    """Where a recommendation can come from."""

    UNSPECIFIED = "unspecified"
    """The server named none that this client knows."""
    SEQUENCE = "sequence"
    """The encoder: what follows such a sequence."""
    SIMILAR_USERS = "similar users"
    """What similar users did."""
    FACTORS = "factors"
    """The factors of person and item."""
    TRANSITIONS = "transitions"
    """What others did next after the same items."""
    HISTORY = "history"
    """The person did something with the item before."""
    POPULARITY = "popularity"
    """What most people want."""


@dataclass(frozen=True, slots=True)
class SourceShare:
    """How much of a score a source gave.

    Attributes:
        source: The source.
        share: Its share, above 0; those of an item sum to one.
    """

    source: Source
    share: float


@dataclass(frozen=True, slots=True)
class Voter:
    """A similar user who did something with a recommended item.

    Attributes:
        pseudonym: A name that stays the same with the key of the replicas, and is not the user's id.
        similarity: The cosine of the two users' factors.
    """

    pseudonym: str
    similarity: float


@dataclass(frozen=True, slots=True)
class OwnItem:
    """How much an item of the person's own history counts for a recommended one.

    Attributes:
        item_id: The item's id.
        share: Its share of what the last 20 events count.
    """

    item_id: str
    share: float


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is recommended.

    Attributes:
        sources: What the sources gave, the greatest share first.
        voter_count: How many similar users voted for the item; 0 where they were too few to be told
            of.
        voters: The most similar of them, at most 5; none where they were too few to be told of.
        own_items: The items of the person's own history that count most for it, at most 3.
    """

    sources: tuple[SourceShare, ...] = ()
    voter_count: int = 0
    voters: tuple[Voter, ...] = ()
    own_items: tuple[OwnItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A recommended item.

    Attributes:
        item_id: The item's id.
        score: Greater is better; comparable within one answer only.
        title: The item's title; empty if the model has none.
        reason: Why it is recommended; None unless asked for.
    """

    item_id: str
    score: float
    title: str
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class RecommendResult(PersonResult):
    """Items that a person is likely to want next, and what `PersonResult` has.

    Attributes:
        recommendations: The best first.
        basis: What they rest on.
        allowed_item_count: How many items of the catalogue `Options.allow_item_ids` and
            `Options.conditions` leave; None if both were empty.
        next_page_token: For `Options.page_token`, to ask for the items behind these; empty if there
            are none.
    """

    recommendations: tuple[Recommendation, ...]
    basis: Basis
    allowed_item_count: int | None = None
    next_page_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RankResult(PersonResult):
    """Given items in the order in which a person wants them, and what `PersonResult` has.

    Attributes:
        recommendations: The items that the model knows, the best first. Items of the person's own
            history are among them.
        unknown_item_ids: The ids that the model does not know, in the order given.
        basis: What the order rests on.
    """

    recommendations: tuple[Recommendation, ...]
    unknown_item_ids: tuple[str, ...]
    basis: Basis


@dataclass(frozen=True, slots=True)
class SimilarItem:
    """An item like the one asked about.

    Attributes:
        item_id: The item's id.
        similarity: The cosine of the two items' embeddings, -1 to 1.
        title: The item's title; empty if the model has none.
    """

    item_id: str
    similarity: float
    title: str


@dataclass(frozen=True, slots=True)
class SimilarItemsResult:
    """Items that people come to in the same company as an item.

    Attributes:
        similar_items: The most similar first, without the item itself.
        model_version: The version of the model that answered.
        allowed_item_count: How many items of the catalogue the allowed ids and the conditions leave;
            None if both were empty.
    """

    similar_items: tuple[SimilarItem, ...]
    model_version: str
    allowed_item_count: int | None = None


class AttributeKind(Enum):
    """What the values of an attribute are."""

    UNSPECIFIED = "unspecified"
    """The server named none that this client knows."""
    TEXT = "text"
    """Texts, any number of them for an item: for `AnyOf`, `AllOf`, `NoneOf` and `CategoryCap`."""
    NUMBER = "number"
    """A number, or none: for `NumberRange`."""
    TIME = "time"
    """A time, or none: for `TimeRange`."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of items.

    Attributes:
        name: Its name.
        kind: What its values are.
    """

    name: str
    kind: AttributeKind


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
        attributes: The attributes of items that conditions can name.
        max_requests: The most queries in a batch.
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
    attributes: tuple[Attribute, ...] = ()
    max_requests: int = 0
