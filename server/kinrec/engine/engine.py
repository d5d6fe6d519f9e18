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
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.manifest.version

    def encode(self, *, user_id: str = "", events: Sequence[Event] = ()) -> Encoding:
        """Encode a person's behaviour into an interest vector.

        Args:
            user_id: A user whose stored history comes before ``events``.
            events: What the person did, oldest first.

        Raises:
            NoSubjectError: Neither was given.
            UnknownUserError: The user is not known and there are no events.
            InvalidFieldError: A field breaks its rule.
        """
        subject = self._subject(user_id, events)
        vector = subject.person.vector if subject.has_history else np.zeros(0, np.float32)
        return Encoding(vector, subject.report, subject.is_known)

    def similar_users(
        self, *, user_id: str = "", events: Sequence[Event] = (), limit: int = 10
    ) -> SimilarUsers:
        """Find known users who behave alike, by the cosine of the factors.

        Args:
            user_id: A user whose stored history comes before ``events``.
            events: What the person did, oldest first.
            limit: The number of users, 1 to ``MAX_LIMIT``.

        Raises:
            NoSubjectError: Neither ``user_id`` nor ``events`` was given.
            UnknownUserError: The user is not known and there are no events.
            InvalidFieldError: A field breaks its rule.
        """
        _check_limit(limit)
        subject = self._subject(user_id, events)
        ids: list[str] = []
        cosines: list[float] = []
        if subject.has_history:
            numbers, similarities = subject.person.neighbours(limit)
            ids = [self._model.users.key(number) for number in numbers.tolist()]
            cosines = np.clip(similarities, -1.0, 1.0).tolist()
        return SimilarUsers(ids, cosines, subject.report, subject.is_known)

    def recommend(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        limit: int = 10,
        include_seen: bool | None = None,
        exclude_item_ids: Sequence[str] = (),
    ) -> Recommendations:
        """Recommend the items that a person is most likely to want next.

        Args:
            user_id: A user whose stored history comes before ``events``.
            events: What the person did, oldest first.
            limit: The number of items, 1 to ``MAX_LIMIT``.
            include_seen: Whether items of the person's own history may be recommended; None for
                the model's default.
            exclude_item_ids: Items that must not be recommended, at most ``MAX_EXCLUDED_ITEMS``.

        Raises:
            NoSubjectError: Neither ``user_id`` nor ``events`` was given.
            UnknownUserError: The user is not known and there are no events.
            InvalidFieldError: A field breaks its rule.
        """
        _check_limit(limit)
        blocked = self._numbers("exclude_item_ids", exclude_item_ids)
        subject = self._subject(user_id, events)
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
        )

    def _subject(self, user_id: str, events: Sequence[Event]) -> _Subject:
        if not user_id and not len(events):
            raise NoSubjectError
        user = None
        if user_id:
            check_id("user_id", user_id)
            user = self._model.users.get(user_id)
            if user is None and not len(events):
                raise UnknownUserError
        model, encoder = self._model, self._encoder
        if user is not None and not len(events):
            return _Subject(Person.stored(model, encoder, user), EventReport())
        reader = model.reader
        before = NOTHING if user is None else model.histories.user(user, reader.max_history)
        new, report = reader.read(events, before)
        if user is not None and not len(new):
            return _Subject(Person.stored(model, encoder, user), report)
        history = before.then(new, reader.max_history)
        return _Subject(Person(model, encoder, history, user), report)

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
        return take_best(candidates, scores[candidates].astype(np.float32), limit)

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
