"""What goes into the engine and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kinrec.engine.reasons import Reason


class Event(NamedTuple):
    """Something a person did with an item.

    Attributes:
        item_id: The item's id, as in the logs the model was trained on.
        event_type: What was done; empty if unspecified.
        time: When, in seconds since 1970 UTC; None if unknown.
        value: A measure of the event, e.g. a rating. A model can be trained to leave out events with
            a low value; it changes nothing else.
    """

    item_id: str
    event_type: str = ""
    time: float | None = None
    value: float | None = None


class EventTable(Sequence[Event]):
    """Events by column, as they come from the wire and as they are read.

    To make an ``Event`` of each and to take them apart again would take as long as to read them.

    Args:
        item_ids: As of ``Event``, one for each event, as are the others.
        event_types: Likewise.
        times: Likewise.
        values: Likewise.
    """

    __slots__ = ("event_types", "item_ids", "times", "values")

    def __init__(
        self,
        item_ids: Sequence[str],
        event_types: Sequence[str],
        times: Sequence[float | None],
        values: Sequence[float | None],
    ) -> None:
        self.item_ids = item_ids
        self.event_types = event_types
        self.times = times
        self.values = values

    @classmethod
    def of(cls, events: Sequence[Event]) -> EventTable:
        """Give some events as a table, itself if they are one."""
        if isinstance(events, EventTable):
            return events
        return cls(*zip(*events, strict=True)) if events else cls((), (), (), ())

    def __len__(self) -> int:
        return len(self.item_ids)

    @overload
    def __getitem__(self, place: int) -> Event: ...

    @overload
    def __getitem__(self, place: slice) -> EventTable: ...

    def __getitem__(self, place: int | slice) -> Event | EventTable:
        if isinstance(place, slice):
            return EventTable(
                self.item_ids[place], self.event_types[place], self.times[place], self.values[place]
            )
        return Event(
            self.item_ids[place], self.event_types[place], self.times[place], self.values[place]
        )


class EventReport(NamedTuple):
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

    PERSONAL = "personal"
    POPULAR = "popular"


# Answers are not frozen: each belongs to one call, and freezing takes as long as all else that makes it.
@dataclass(slots=True)
class Encoding:
    """A user-interest vector.

    Attributes:
        vector: float32, (vector_size,); (0,) if no event was usable.
        event_report: What became of the events.
        known_user: Whether a known user id was given, or a state of one.
        state: To go on from with later events; empty if nothing usable is known of the person.
    """

    vector: NDArray[np.float32]
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class SimilarUsers:
    """Known users who behave like a person, the most similar first.

    Attributes:
        user_ids: Their ids; empty if no event was usable.
        similarities: Cosine of the factors, -1 to 1, beside each id.
        event_report: What became of the events.
        known_user: Whether a known user id was given, or a state of one.
        state: To go on from with later events; empty if nothing usable is known of the person.
        shared_item_ids: Beside each id, if asked for, the items that both did something with, those
            that the person did last first.
    """

    user_ids: list[str]
    similarities: list[float]
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)
    shared_item_ids: list[list[str]] = field(default_factory=list)


@dataclass(slots=True)
class Recommendations:
    """Items that a person is likely to want next, the best first.

    Attributes:
        item_ids: Their ids.
        scores: The blended scores beside each id; comparable within one answer only.
        titles: The titles beside each id; empty strings if the model has none.
        basis: What the recommendations rest on.
        event_report: What became of the events.
        known_user: Whether a known user id was given, or a state of one.
        state: To go on from with later events; empty if nothing usable is known of the person.
        allowed: How many items the allowed ids and the conditions leave of the catalogue; None if
            neither was given.
        more: Whether a later page has more.
        reasons: Beside each id, if asked for; else empty.
    """

    item_ids: list[str]
    scores: list[float]
    titles: list[str]
    basis: Basis
    event_report: EventReport
    known_user: bool
    state: bytes = field(default=b"", repr=False)
    allowed: int | None = None
    more: bool = False
    reasons: list[Reason] = field(default_factory=list)


@dataclass(slots=True)
class SimilarItems:
    """Items like another, the most similar first.

    Attributes:
        item_ids: Their ids.
        similarities: Cosine of the embeddings, -1 to 1, beside each id.
        titles: The titles beside each id; empty strings if the model has none.
        allowed: How many items the allowed ids and the conditions leave of the catalogue; None if
            neither was given.
    """

    item_ids: list[str]
    similarities: list[float]
    titles: list[str]
    allowed: int | None = None


@dataclass(slots=True)
class Ranking:
    """Given items in the order in which a person is likely to want them.

    Attributes:
        recommendations: The items that the model knows.
        unknown_item_ids: Those it does not, in the order given.
    """

    recommendations: Recommendations
    unknown_item_ids: list[str]
