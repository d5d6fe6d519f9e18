"""Asks the sources of a model about a person, and says how much each is to be believed."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kinrec.engine.encoder import MAX_BATCH
from kinrec.engine.events import NOTHING
from kinrec.engine.index import USUAL
from kinrec.engine.sources import (
    FACTORS,
    HISTORY,
    POPULARITY,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
    Shares,
    softmax,
)
from kinrec.engine.stages import ENCODE, SEARCH, listener
from kinrec.engine.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Blend
    from kinrec.engine.encoder import Encoded, Encoder, Start
    from kinrec.engine.events import History
    from kinrec.engine.index import Found, Search
    from kinrec.engine.model import Model
    from kinrec.engine.sources import Followers


class EncodesHistories(Protocol):
    """What turns a history into an interest vector."""

    def encode(self, history: History, start: Start | None = None) -> Encoded:
        """Encode at least one event, which may follow a start."""


class Person:
    """Whom a request is about, and what is computed of it when it is first asked for.

    Attributes:
        user: The user number if known.
        history: The usable events, stored and new.
        search: Among which items, and how thoroughly. To be set before anything is asked.
    """

    def __init__(
        self, model: Model, encoder: EncodesHistories, history: History, user: int | None = None
    ) -> None:
        self._model = model
        self._encoder = encoder
        self._stored: int | None = None
        self._start: Start | None = None
        self._sequence = history  # what is encoded, after the start
        # Not by functools.cached_property, which up to Python 3.11 holds one lock for all instances:
        # no two people would be encoded at the same time.
        self._encoded: Encoded | None = None
        self._factors: NDArray[np.float32] | None = None
        self._followers: dict[float, Followers] = {}
        self._neighbours: dict[int, Found] = {}
        self._next_items: dict[int, Found] = {}
        self._next_shares: dict[tuple[int, float], Shares] = {}
        self.history = history
        self.user = user
        self.search = USUAL

    @classmethod
    def stored(cls, model: Model, encoder: EncodesHistories, user: int) -> Person:
        """Give a known user of whom nothing new is known: what training computed holds."""
        person = cls(model, encoder, model.histories.user(user, model.reader.max_history), user)
        person._stored = user
        return person

    @classmethod
    def after(
        cls, model: Model, encoder: EncodesHistories, before: State | None, new: History
    ) -> Person:
        """Give who did something new after what a state says, or after nothing.

        Args:
            model: The model.
            encoder: The model's.
            before: Where the person stood.
            new: What came since; nothing, only after a state.
        """
        limit = model.reader.max_history
        if before is None:
            person = cls(model, encoder, new.last(limit))
        elif not len(new):
            person = cls(model, encoder, before.history, before.user)
            person._encoded = before.encoded
            return person
        else:
            person = cls(model, encoder, before.history.then(new, limit), before.user)
        if model.encoder.carries_state:
            person._sequence = new
            person._start = None if before is None else before.start
        return person

    @property
    def state(self) -> State | None:
        """Where the person stands, to go on from later; None if nothing is known of the person."""
        if self._stored is not None:
            return State(self._stored, NOTHING, None)
        if not len(self.history):
            return None
        return State(self.user, self.history, self.encoded)

    @property
    def encoded(self) -> Encoded:
        """The interest vector and the encoder's states after the last event."""
        if self._encoded is None:
            self._encoded = self._encode()
        return self._encoded

    @property
    def vector(self) -> NDArray[np.float32]:
        """The interest vector, float32, (vector_size,)."""
        return self.encoded.vector

    def _encode(self) -> Encoded:
        if self._stored is not None:
            return self._model.stored(self._stored)
        heard_by = listener.get()
        before = heard_by.enter(ENCODE)
        encoded = self._encoder.encode(*self._to_encode())
        heard_by.enter(before)
        return encoded

    def _to_encode(self) -> tuple[History, Start | None]:
        """Give the events that the encoder takes, and what came before them."""
        session_gap = self._model.reader.session_gap
        start = self._start
        if start is None:
            return self._sequence.last_session(session_gap), None
        session, goes_on = self._sequence.session_after(start.time, session_gap)
        return session, start if goes_on else None

    @property
    def factors(self) -> NDArray[np.float32]:
        """The factors, float32, (factors,), of length one."""
        if self._factors is None:
            self._factors = self._find_factors()
        return self._factors

    def _find_factors(self) -> NDArray[np.float32]:
        if self._stored is not None:
            return np.asarray(self._model.user_factors[self._stored])
        return self._model.fold_in.user(self.history, self.vector)

    def followers(self, half_life: float) -> Followers:
        """Find what people did within a few events of the last items of the history.

        Args:
            half_life: The number of later events after which an event counts half.
        """
        if half_life not in self._followers:
            found = self._model.transitions.followers(self.history, half_life)
            self._followers[half_life] = found
        return self._followers[half_life]

    def neighbours(self, count: int) -> Found:
        """Find the users with the nearest factors, without the person itself."""
        if count not in self._neighbours:
            self._neighbours[count] = self._find_neighbours(count)
        return self._neighbours[count]

    def _find_neighbours(self, count: int) -> Found:
        search, how = self._model.user_index.search, self._search_of_all
        if self.user is None:
            found = search(self.factors, count, how)
        else:
            found = self._without_itself(search(self.factors, count + 1, how), count)
        listener.get().note_neighbours(len(found[0]))
        return found

    def _without_itself(self, found: Found, count: int) -> Found:
        numbers, cosines = found
        others = numbers != self.user
        return numbers[others][:count], cosines[others][:count]

    @property
    def _search_of_all(self) -> Search:
        return self.search if self.search.within is None else self.search._replace(within=None)

    def next_items(self, count: int) -> Found:
        """Find the items that the encoder scores highest as the next, of all items."""
        if count not in self._next_items:
            found = self._model.item_index.search(self.vector, count, self._search_of_all)
            self._next_items[count] = found
        return self._next_items[count]

    def next_shares(self, count: int, temperature: float) -> Shares:
        """Give the shares of those; see ``softmax``."""
        key = count, temperature
        if key not in self._next_shares:
            self._next_shares[key] = softmax(self.next_items(count), temperature)
        return self._next_shares[key]

    def next_items_within(self, count: int) -> Found:
        """Find those the encoder scores highest of the items that are searched among."""
        return self._model.item_index.search(self.vector, count, self.search)


def encode_together(encoder: Encoder, people: Iterable[Person]) -> None:
    """Encode all who are not yet, those of like lengths in one run.

    Args:
        encoder: The model's.
        people: With at least one event each.
    """
    listener.get().enter(ENCODE)
    waiting = [
        (person, *person._to_encode())  # noqa: SLF001 - of this module
        for person in people
        if person._encoded is None and person._stored is None  # noqa: SLF001
    ]
    waiting.sort(key=lambda job: len(job[1].items))
    while waiting:
        _, first, _ = waiting[0]
        size = 1
        for _, history, _ in waiting[1:MAX_BATCH]:
            if not encoder.share_a_run(first, history):
                break
            size += 1
        batch, waiting = waiting[:size], waiting[size:]
        found = encoder.run_from(
            [history for _, history, _ in batch], [start for _, _, start in batch]
        )
        for (person, _, _), encoded in zip(batch, found, strict=True):
            person._encoded = encoded  # noqa: SLF001


def search_together(
    model: Model, people: Sequence[Person], items: int, *, sources: Container[str]
) -> None:
    """Search for all whom nobody has searched for yet, among all items and users.

    Args:
        model: The model.
        people: With at least one event each.
        items: How many items the sequence proposes.
        sources: What will be asked.
    """
    if not people:
        return
    heard_by = listener.get()
    heard_by.enter(SEARCH)
    if SEQUENCE in sources:
        vectors = np.stack([person.vector for person in people])
        found = model.item_index.search_many(vectors, items)
        for person, its in zip(people, found, strict=True):
            person._next_items[items] = its  # noqa: SLF001
    if SIMILAR_USERS in sources:
        count = model.manifest.blend.neighbours
        factors = np.stack([person.factors for person in people])
        # One more, because the person itself may be among them.
        for person, its in zip(
            people, model.user_index.search_many(factors, count + 1), strict=True
        ):
            others = person._without_itself(its, count)  # noqa: SLF001
            person._neighbours[count] = others  # noqa: SLF001
            heard_by.note_neighbours(len(others[0]))


def _sequence(_model: Model, person: Person, blend: Blend, count: int) -> Shares:
    temperature = blend.sequence_temperature
    if person.search.within is None:
        return person.next_shares(count, temperature)
    within, found = person.next_items_within(count), person.next_items(count)
    return softmax(within, temperature, among=found)


def _similar_users(model: Model, person: Person, blend: Blend, _count: int) -> Shares:
    return model.votes.shares(*person.neighbours(blend.neighbours), blend.vote_half_life)


def _factors(model: Model, person: Person, _blend: Blend, count: int) -> Shares:
    return model.factor_scores.shares(person.factors, count, person.search)


def _transitions(_model: Model, person: Person, blend: Blend, _count: int) -> Shares:
    followers = person.followers(blend.transition_half_life)
    return followers.items, followers.shares


def _history(model: Model, person: Person, blend: Blend, _count: int) -> Shares:
    return model.own_history.shares(person.history, blend.history_half_life)


def _popularity(model: Model, _person: Person, _blend: Blend, count: int) -> Shares:
    return model.popularity.shares(count)


_ASK: dict[str, Callable[[Model, Person, Blend, int], Shares]] = {
    SEQUENCE: _sequence,
    SIMILAR_USERS: _similar_users,
    FACTORS: _factors,
    TRANSITIONS: _transitions,
    HISTORY: _history,
    POPULARITY: _popularity,
}


def ask(source: str, model: Model, person: Person, blend: Blend, count: int) -> Shares:
    """Ask one source about a person with at least one event.

    Args:
        source: One of ``sources.SOURCES``.
        model: The model.
        person: The person.
        blend: The half-lives, the temperature and the number of neighbours.
        count: How many items a source proposes that could propose any number.
    """
    return _ASK[source](model, person, blend, count)


class Mixes:
    """The weights of the sources by how much is known of a person."""

    def __init__(self, blend: Blend) -> None:
        self._min_events = [mix.min_events for mix in blend.mixes]
        self._weights = [
            (_above_zero(mix.weights), _above_zero(mix.weights_with_seen)) for mix in blend.mixes
        ]

    def of(self, events: int, *, include_seen: bool) -> dict[str, float]:
        """Give the weights above zero for a person of at least one event."""
        place = max(bisect_right(self._min_events, events) - 1, 0)
        return self._weights[place][include_seen]


def _above_zero(weights: Mapping[str, float]) -> dict[str, float]:
    # In one order, which a map of a message has not: sums are the same to the bit in every process.
    return {source: weight for source, weight in sorted(weights.items()) if weight > 0.0}
