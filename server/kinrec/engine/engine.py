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
from kinrec.engine.encoder import BatchingEncoder
from kinrec.engine.events import NOTHING, History, check_id
from kinrec.engine.index import take_best
from kinrec.engine.model import Model
from kinrec.engine.sources import (
    FACTORS,
    POPULARITY,
    SEQUENCE,
    SIMILAR_USERS,
    TRANSITIONS,
    Shares,
    softmax,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine._types import Event
    from kinrec.engine.index import Found


@dataclass(frozen=True, slots=True)
class _Person:
    """The person a request is about: the user number if known, the events if usable."""

    user: int | None
    history: History
    is_stored: bool
    report: EventReport


class Engine:
    """Answers from one bundle. Make one with ``load``; every method may be called by many threads.

    Example:
        >>> engine = Engine.load("models/shop")  # doctest: +SKIP
        >>> engine.recommend(events=[Event("i7", "view")], limit=5).item_ids  # doctest: +SKIP
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._encoder = BatchingEncoder(model.encoder)
        self._weights = dict(model.manifest.blend.weights)

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
        person = self._person(user_id, events)
        vector = self._vector(person) if len(person.history) else np.zeros(0, np.float32)
        return Encoding(vector, person.report, person.user is not None)

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
        person = self._person(user_id, events)
        ids: list[str] = []
        cosines: list[float] = []
        if len(person.history):
            numbers, similarities = self._neighbours(person, self._vector(person), limit)
            ids = [self._model.users.key(number) for number in numbers.tolist()]
            cosines = np.clip(similarities, -1.0, 1.0).tolist()
        return SimilarUsers(ids, cosines, person.report, person.user is not None)

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
        person = self._person(user_id, events)
        if include_seen is None:
            include_seen = self.manifest.event_spec.include_seen_default
        if not include_seen and len(person.history):
            blocked = np.concatenate([blocked, person.history.items])
        numbers, scores = self._blend(person, limit, blocked)
        numbers_list = numbers.tolist()
        return Recommendations(
            [self._model.items.key(number) for number in numbers_list],
            scores.tolist(),
            self._model.titles.of(numbers_list),
            Basis.PERSONAL if len(person.history) else Basis.POPULAR,
            person.report,
            person.user is not None,
        )

    def _person(self, user_id: str, events: Sequence[Event]) -> _Person:
        if not user_id and not len(events):
            raise NoSubjectError
        user = None
        stored = NOTHING
        if user_id:
            check_id("user_id", user_id)
            user = self._model.users.get(user_id)
            if user is None and not len(events):
                raise UnknownUserError
        if user is not None:
            stored = self._model.histories.user(user, self._model.reader.max_history)
        if not len(events):
            return _Person(user, stored, is_stored=True, report=EventReport())
        new, report = self._model.reader.read(events, stored)
        history = stored.then(new, self._model.reader.max_history)
        return _Person(user, history, is_stored=not len(new) and user is not None, report=report)

    def _numbers(self, field: str, item_ids: Sequence[str]) -> NDArray[np.int64]:
        if len(item_ids) > MAX_EXCLUDED_ITEMS:
            raise InvalidFieldError(
                field, f"at most {MAX_EXCLUDED_ITEMS} are allowed, got {len(item_ids)}"
            )
        for position, item_id in enumerate(item_ids):
            check_id(f"{field}[{position}]", item_id)
        found = (self._model.items.get(item_id) for item_id in item_ids)
        return np.array([number for number in found if number is not None], np.int64)

    def _vector(self, person: _Person) -> NDArray[np.float32]:
        if person.is_stored and person.user is not None:
            return np.asarray(self._model.user_vectors[person.user])
        session_gap = self.manifest.event_spec.session_gap
        return self._encoder.encode(person.history.last_session(session_gap))

    def _neighbours(self, person: _Person, vector: NDArray[np.float32], count: int) -> Found:
        """Find the nearest users without the person itself."""
        if person.is_stored and person.user is not None:
            factors = np.asarray(self._model.user_factors[person.user])
        else:
            factors = self._model.fold_in.user(person.history, vector)
        if person.user is None:
            return self._model.user_index.search(factors, count)
        numbers, cosines = self._model.user_index.search(factors, count + 1)
        others = numbers != person.user
        return numbers[others][:count], cosines[others][:count]

    def _blend(self, person: _Person, limit: int, blocked: NDArray[np.int64]) -> Found:
        """Mix the shares of the sources and take the best items that are not blocked."""
        items = self.manifest.item_count
        scores, is_candidate = np.zeros(items, np.float32), np.zeros(items, np.bool_)
        for weight, (numbers, shares) in self._shares(person, limit, len(blocked)):
            # Unbuffered, as a source may name an item more than once.
            np.add.at(scores, numbers, shares * np.float32(weight))
            is_candidate[numbers] = True
        is_candidate[blocked] = False
        candidates = np.flatnonzero(is_candidate)
        return take_best(candidates, scores[candidates], limit)

    def _shares(self, person: _Person, limit: int, blocked: int) -> list[tuple[float, Shares]]:
        """Ask every source that has a weight.

        As many popular items as could be needed always take part, so that an answer is short only
        when no more items are left.
        """
        model, weights = self._model, self._weights
        blend = model.manifest.blend
        popular = model.popularity.shares(limit + blocked)
        shares = [(weights.get(POPULARITY, 0.0) if len(person.history) else 1.0, popular)]
        if not len(person.history):
            return shares
        count = max(blend.candidates, limit)
        vector = self._vector(person)
        if weights.get(SEQUENCE):
            found = model.item_index.search(vector, count)
            shares.append((weights[SEQUENCE], softmax(found, blend.sequence_temperature)))
        if weights.get(SIMILAR_USERS):
            neighbours = self._neighbours(person, vector, blend.neighbours)
            shares.append((weights[SIMILAR_USERS], model.votes.shares(*neighbours)))
        if weights.get(TRANSITIONS):
            followers = model.transitions.shares(person.history, blend.transition_half_life)
            shares.append((weights[TRANSITIONS], followers))
        if weights.get(FACTORS):
            factors = model.fold_in.user(person.history, vector)
            shares.append((weights[FACTORS], model.factor_scores.shares(factors, count)))
        return shares

    def _warm(self) -> None:
        """Answer once for a stored user, so that a bundle that cannot answer is found at load."""
        lengths = self._model.histories.lengths
        user = int(np.argmax(lengths > 0))
        try:
            history = self._model.histories.user(user, 50)
            person = _Person(None, history, is_stored=False, report=EventReport())
            vector = self._vector(person)
            numbers, _ = self._blend(person, 10, np.zeros(0, np.int64))
            self._neighbours(person, vector, 10)
        except Exception as error:
            raise BundleError(f"{self.name} {self.version}: cannot answer") from error
        if not (np.isfinite(vector).all() and len(numbers)):
            raise BundleError(f"{self.name} {self.version}: answers with no items or not-a-number")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidFieldError("limit", f"must be from 1 to {MAX_LIMIT}, is {limit}")
