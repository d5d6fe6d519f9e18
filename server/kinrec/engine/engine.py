"""The engine: loads a bundle once and answers from it, in process and from many threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.engine._errors import (
    BundleError,
    InvalidFieldError,
    NoSubjectError,
    UnknownUserError,
)
from kinrec.engine._limits import MAX_EXCLUDED_ITEMS, MAX_LIMIT
from kinrec.engine._types import Basis, Encoding, EventReport, Recommendations, SimilarUsers
from kinrec.engine.blend import Mixes, Person, ask
from kinrec.engine.encoder import BatchingEncoder
from kinrec.engine.events import NOTHING, check_id
from kinrec.engine.index import take_best
from kinrec.engine.model import Model
from kinrec.engine.state import State

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine._types import Event
    from kinrec.engine.index import Found


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom a request is about, and what became of the events that came with it."""

    person: Person
    report: EventReport

    @property
    def is_known(self) -> bool:
        return self.person.user is not None

    @property
    def has_history(self) -> bool:
        return len(self.person.history) > 0


class Engine:
    """Answers from one bundle. Make one with ``load``; every method may be called by many threads.

    Example:
        >>> engine = Engine.load("models/shop")  # doctest: +SKIP
        >>> engine.recommend(events=[Event("i7", "view")], limit=5).item_ids  # doctest: +SKIP
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._encoder = BatchingEncoder(model.encoder)
        self._mixes = Mixes(model.manifest.blend)
        self._discount = model.popularity.discount(model.manifest.blend.popularity_discount)

    @classmethod
    def load(cls, path: str | os.PathLike[str], version: str | None = None) -> Engine:
        """Verify, load and warm a bundle.

        Args:
            path: A store, or one bundle's directory.
            version: The version in the store; the newest complete one if None.

        Raises:
            BundleError: There is no such bundle, or it is not what the trainer wrote.
        """
        engine = cls(Model.open(path, version))
        engine._warm()
        return engine

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._model.manifest

    @property
    def fingerprint(self) -> bytes:
        """What tells the bundle from every other; see ``fingerprint_of``."""
        return self._model.fingerprint

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.manifest.version

    def user_ids(self, start: int, stop: int) -> list[str]:
        """Give the ids of the users from one place in the bundle up to another, or to the last."""
        users = self._model.users
        return [users.key(number) for number in range(start, min(stop, len(users)))]

    def encode(
        self, *, user_id: str = "", events: Sequence[Event] = (), state: bytes = b""
    ) -> Encoding:
        """Encode a person's behaviour into an interest vector.

        Args:
            user_id: A user whose stored history comes before ``events``, if there is no state.
            events: What the person did, oldest first; with a state, what came since.
            state: What an earlier answer gave, to go on from.

        Raises:
            NoSubjectError: None of the three was given.
            UnknownUserError: The user is not known, and there are neither events nor a state.
            InvalidStateError: The state is none.
            StaleStateError: The state is of another bundle.
            InvalidFieldError: A field breaks its rule.
        """
        subject = self._subject(user_id, events, state)
        vector = subject.person.vector if subject.has_history else np.zeros(0, np.float32)
        return Encoding(vector, subject.report, subject.is_known, self._state(subject.person))

    def similar_users(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
    ) -> SimilarUsers:
        """Find known users who behave alike, by the cosine of the factors.

        Args:
            user_id: A user whose stored history comes before ``events``, if there is no state.
            events: What the person did, oldest first; with a state, what came since.
            state: What an earlier answer gave, to go on from.
            limit: The number of users, 1 to ``MAX_LIMIT``.

        Raises:
            NoSubjectError: None of ``user_id``, ``events`` and ``state`` was given.
            UnknownUserError: The user is not known, and there are neither events nor a state.
            InvalidStateError: The state is none.
            StaleStateError: The state is of another bundle.
            InvalidFieldError: A field breaks its rule.
        """
        _check_limit(limit)
        subject = self._subject(user_id, events, state)
        ids: list[str] = []
        cosines: list[float] = []
        if subject.has_history:
            numbers, similarities = subject.person.neighbours(limit)
            ids = [self._model.users.key(number) for number in numbers.tolist()]
            cosines = np.clip(similarities, -1.0, 1.0).tolist()
        state = self._state(subject.person)
        return SimilarUsers(ids, cosines, subject.report, subject.is_known, state)

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
        """Recommend the items that a person is most likely to want next.

        Args:
            user_id: A user whose stored history comes before ``events``, if there is no state.
            events: What the person did, oldest first; with a state, what came since.
            state: What an earlier answer gave, to go on from.
            limit: The number of items, 1 to ``MAX_LIMIT``.
            include_seen: Whether items of the person's own history may be recommended; None for
                the model's default.
            exclude_item_ids: Items that must not be recommended, at most ``MAX_EXCLUDED_ITEMS``.

        Raises:
            NoSubjectError: None of ``user_id``, ``events`` and ``state`` was given.
            UnknownUserError: The user is not known, and there are neither events nor a state.
            InvalidStateError: The state is none.
            StaleStateError: The state is of another bundle.
            InvalidFieldError: A field breaks its rule.
        """
        _check_limit(limit)
        blocked = self._numbers("exclude_item_ids", exclude_item_ids)
        subject = self._subject(user_id, events, state)
        if include_seen is None:
            include_seen = self.manifest.event_spec.include_seen_default
        numbers, scores = self._blend(subject.person, limit, blocked, include_seen=include_seen)
        numbers_list = numbers.tolist()
        return Recommendations(
            [self._model.items.key(number) for number in numbers_list],
            scores.tolist(),
            self._model.titles.of(numbers_list),
            Basis.PERSONAL if subject.has_history else Basis.POPULAR,
            subject.report,
            subject.is_known,
            self._state(subject.person),
        )

    def _subject(self, user_id: str, events: Sequence[Event], state: bytes) -> _Subject:
        if not (user_id or len(events) or state):
            raise NoSubjectError
        model, encoder = self._model, self._encoder
        user = None
        if user_id:
            check_id("user_id", user_id)
            user = model.users.get(user_id)
            if user is None and not (len(events) or state):
                raise UnknownUserError
        before = model.states.unpack(state) if state else None
        if before is None and user is not None:
            before = State(user, NOTHING, None)
        stored = None  # whose events in the bundle come before
        if before is not None and before.encoded is None and before.user is not None:
            stored = before.user
            before = model.stored_state(stored)
        history = NOTHING if before is None else before.history
        new, report = model.reader.read(events, history, is_stored=stored is not None)
        if stored is not None and not len(new) and user in (None, stored):
            return _Subject(Person.stored(model, encoder, stored), report)
        person = Person.after(model, encoder, before, new)
        if user is not None or stored is not None:
            person.user = user if user is not None else stored
        return _Subject(person, report)

    def _state(self, person: Person) -> bytes:
        state = person.state
        return b"" if state is None else self._model.states.pack(state)

    def _numbers(self, field: str, item_ids: Sequence[str]) -> NDArray[np.int64]:
        if len(item_ids) > MAX_EXCLUDED_ITEMS:
            raise InvalidFieldError(
                field, f"at most {MAX_EXCLUDED_ITEMS} are allowed, got {len(item_ids)}"
            )
        for position, item_id in enumerate(item_ids):
            check_id(f"{field}[{position}]", item_id)
        found = (self._model.items.get(item_id) for item_id in item_ids)
        return np.array([number for number in found if number is not None], np.int64)

    def _blend(
        self, person: Person, limit: int, blocked: NDArray[np.int64], *, include_seen: bool
    ) -> Found:
        """Mix the shares of the sources and take the best items that are not blocked.

        As many popular items as could be needed always take part, with next to no weight, so that
        an answer is short only when no more items are left.
        """
        model, blend = self._model, self.manifest.blend
        weights: dict[str, float] = {}
        if len(person.history):
            weights = self._mixes.of(len(person.history), include_seen=include_seen)
            if not include_seen:
                blocked = np.concatenate([blocked, person.history.items])
        popular, shares = model.popularity.shares(limit + len(blocked))
        named, values = [popular], [shares if not weights else shares * _LEAST]
        for source, weight in weights.items():
            numbers, shares = ask(source, model, person, blend, max(blend.candidates, limit))
            named.append(numbers)
            values.append(shares * np.float32(weight))
        # A source may name an item more than once, and so may several.
        scores = np.bincount(
            np.concatenate(named), np.concatenate(values), self.manifest.item_count
        )
        scores[blocked] = 0.0
        candidates = np.flatnonzero(scores)
        found = scores[candidates].astype(np.float32)
        if weights:
            found *= self._discount[candidates]
        return take_best(candidates, found, limit)

    def _warm(self) -> None:
        """Answer once for a stored user, so that a bundle that cannot answer is found at load."""
        lengths = self._model.histories.lengths
        user = int(np.argmax(lengths > 0))
        try:
            history = self._model.histories.user(user, 50)
            person = Person(self._model, self._encoder, history)
            nothing = np.zeros(0, np.int64)
            numbers, _ = self._blend(person, 10, nothing, include_seen=True)
            person.neighbours(10)
        except Exception as error:
            raise BundleError(f"{self.name} {self.version}: cannot answer") from error
        if not (np.isfinite(person.vector).all() and len(numbers)):
            raise BundleError(f"{self.name} {self.version}: answers with no items or not-a-number")


# Of popular items that no source names: far below every share that decides anything.
_LEAST = np.float32(1e-9)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidFieldError("limit", f"must be from 1 to {MAX_LIMIT}, is {limit}")
