"""The engine: loads a bundle once and answers from it, in process and from many threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Blend, Mix
from kinrec.engine._errors import BundleError, EngineError, InvalidFieldError
from kinrec.engine._limits import MAX_LIMIT, MAX_SHARED_ITEMS
from kinrec.engine._types import (
    Encoding,
    Ranking,
    Recommendations,
    SimilarItems,
    SimilarUsers,
)
from kinrec.engine.answers import Answers, read_each
from kinrec.engine.blend import Person
from kinrec.engine.events import check_id
from kinrec.engine.index import Search
from kinrec.engine.model import Model
from kinrec.engine.options import PLAIN, Options, Query, check_limit
from kinrec.engine.questions import Questions
from kinrec.engine.recommender import Recommender
from kinrec.engine.similar import Neighbours, find_similar_items, find_similar_users
from kinrec.engine.steps import finish

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine._types import Event
    from kinrec.engine.conditions import Condition
    from kinrec.engine.recommender import Plan
    from kinrec.engine.steps import Steps
    from kinrec.engine.subject import Subject

_Made = TypeVar("_Made")


class Engine:
    """Answers from one bundle. Make one with ``load``; every method may be called by many threads.

    Example:
        >>> engine = Engine.load("models/shop")  # doctest: +SKIP
        >>> engine.recommend(events=[Event("i7", "view")], limit=5).item_ids  # doctest: +SKIP
    """

    def __init__(self, model: Model, blend: Blend | None = None) -> None:
        self._model = model
        self._questions = Questions(model.encoder)
        self._recommender = Recommender(model, blend or model.manifest.blend)
        self._answers = Answers(model, self._recommender)
        self._version = model.manifest.version  # asked for by every call

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        version: str | None = None,
        *,
        is_verified: bool = False,
    ) -> Engine:
        """Verify, load and warm a bundle.

        Args:
            path: A store, or one bundle's directory.
            version: The version in the store; the newest complete one if None.
            is_verified: Whether ``check_bundle`` has found nothing wrong with it a moment ago.

        Raises:
            BundleError: There is no such bundle, or it is not what the trainer wrote.
        """
        engine = cls(Model.open(path, version, is_verified=is_verified))
        engine._warm()
        return engine

    def with_weights(self, weights: Mapping[str, float]) -> Engine:
        """Give an engine over the same model that mixes the sources by these weights for everyone.

        Args:
            weights: By the names of ``SOURCES``; what is not named has none. One is above zero.
        """
        mix = Mix(min_events=1, weights=weights, weights_with_seen=weights)
        return Engine(self._model, Blend(mixes=[mix]))

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._model.manifest

    @property
    def fingerprint(self) -> bytes:
        """What tells the bundle from every other; see ``fingerprint_of``."""
        return self._model.fingerprint

    @property
    def ranking(self) -> bytes:
        """What tells the order of its answers from that of every other engine's."""
        return self._recommender.identity

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self._version

    def user_ids(self, start: int, stop: int) -> list[str]:
        """Give the ids of the users from one place in the bundle up to another, or to the last."""
        return self._model.users.keys(start, stop)

    def item_ids(self, start: int, stop: int) -> list[str]:
        """Give the ids of the items from one place in the bundle up to another, or to the last."""
        return self._model.items.keys(start, stop)

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
        return self.encode_for(Query(user_id, events, state), _itself)

    def encode_for(self, query: Query, then: Callable[[Encoding], _Made]) -> _Made:
        """Encode as ``encode`` does, and give what ``then`` makes of it.

        Of calls that are run together it is called for each in a row, which takes less than for each when
        it has its turn.

        Args:
            query: Of which the user id, the events and the state count.
            then: Its errors are raised here as they are.
        """

        def answer(_plan: None, subject: Subject) -> Steps[_Made]:
            encoding = self._answers.encoding(subject)
            yield
            return then(encoding)

        return self._questions.ask(query, self._answers.read_person, answer)

    def similar_users(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
        shared_items: int = 0,
        search_effort: int = 1,
        exact: bool = False,
    ) -> SimilarUsers:
        """Find known users who behave alike, by the cosine of the factors.

        Args:
            user_id: A user whose stored history comes before ``events``, if there is no state.
            events: What the person did, oldest first; with a state, what came since.
            state: What an earlier answer gave, to go on from.
            limit: The number of users, 1 to ``MAX_LIMIT``.
            shared_items: How many of the items to name that the person and each user both did
                something with, at most ``MAX_SHARED_ITEMS``.
            search_effort: See ``Options``.
            exact: See ``Options``.

        Raises:
            NoSubjectError: None of ``user_id``, ``events`` and ``state`` was given.
            UnknownUserError: The user is not known, and there are neither events nor a state.
            InvalidStateError: The state is none.
            StaleStateError: The state is of another bundle.
            InvalidFieldError: A field breaks its rule.
        """
        check_limit(limit)
        if not 0 <= shared_items <= MAX_SHARED_ITEMS:
            rule = f"must be from 0 to {MAX_SHARED_ITEMS}, is {shared_items}"
            raise InvalidFieldError("shared_items", rule)
        Options(search_effort=search_effort, exact=exact).check()
        search = Search(None, search_effort, exact)

        def answer(_plan: None, subject: Subject) -> Steps[SimilarUsers]:
            subject.person.search = search
            found = Neighbours([], [], [])
            if subject.has_history:
                found = find_similar_users(self._model, subject.person, limit, shared_items)
            yield
            return SimilarUsers(
                found.user_ids,
                found.similarities,
                subject.report,
                subject.is_known,
                self._answers.state_of(subject.person),
                found.shared_items,
            )

        return self._questions.ask(Query(user_id, events, state), self._answers.read_person, answer)

    def recommend(
        self,
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        limit: int = 10,
        include_seen: bool | None = None,
        exclude_item_ids: Sequence[str] = (),
        options: Options = PLAIN,
    ) -> Recommendations:
        """Recommend the items that a person is most likely to want next.

        Args:
            user_id: A user whose stored history comes before ``events``, if there is no state.
            events: What the person did, oldest first; with a state, what came since.
            state: What an earlier answer gave, to go on from.
            limit: The number of items, 1 to ``MAX_LIMIT``.
            include_seen: Whether items of the person's own history may be recommended; None for
                the model's default.
            exclude_item_ids: Items that must not be recommended, at most ``MAX_LISTED_ITEMS``.
            options: What else can be asked for.

        Raises:
            NoSubjectError: None of ``user_id``, ``events`` and ``state`` was given.
            UnknownUserError: The user is not known, and there are neither events nor a state.
            InvalidStateError: The state is none.
            StaleStateError: The state is of another bundle.
            InvalidFieldError: A field breaks its rule.
        """
        return self.recommend_for(
            Query(user_id, events, state, limit, include_seen, exclude_item_ids, options),
            _itself,
        )

    def recommend_for(self, query: Query, then: Callable[[Recommendations], _Made]) -> _Made:
        """Recommend as ``recommend`` does, and give what ``then`` makes of it; see ``encode_for``."""

        def answer(plan: Plan, subject: Subject) -> Steps[_Made]:
            found = yield from self._answers.recommendations(plan, subject)
            yield
            return then(found)

        return self._questions.ask(query, self._answers.read, answer)

    def recommend_many(self, queries: Sequence[Query]) -> list[Recommendations | EngineError]:
        """Recommend for many people, who are encoded together.

        Args:
            queries: At most ``MAX_REQUESTS``, each as for ``recommend``.

        Returns:
            For each what ``recommend`` returns or raises, in order; scores may differ by rounding.

        Raises:
            InvalidFieldError: There are too many.
        """
        asked = read_each(queries, self._answers.read)
        read = [one for one in asked if not isinstance(one, EngineError)]
        found = self._answers.recommend_together(read)
        return [one if isinstance(one, EngineError) else next(found) for one in asked]

    def encode_many(self, queries: Sequence[Query]) -> list[Encoding | EngineError]:
        """Encode many people's behaviour together.

        Args:
            queries: At most ``MAX_REQUESTS``, of which the user id, the events and the state count.

        Returns:
            For each what ``encode`` returns or raises, in order.

        Raises:
            InvalidFieldError: There are too many.
        """
        answers = self._answers
        asked = read_each(queries, answers.read_person)
        answers.encode_together(one[1] for one in asked if not isinstance(one, EngineError))
        return [one if isinstance(one, EngineError) else answers.encoding(one[1]) for one in asked]

    def rank(
        self,
        item_ids: Sequence[str],
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        reasons: bool = False,
    ) -> Ranking:
        """Put given items in the order in which a person is most likely to want them.

        Seen items are ranked as the others are.

        Args:
            item_ids: 1 to ``MAX_LIMIT`` ids; what comes again counts once.
            user_id: A user whose stored history comes before ``events``, if there is no state.
            events: What the person did, oldest first; with a state, what came since.
            state: What an earlier answer gave, to go on from.
            reasons: Whether to say why each item is where it is.

        Raises:
            NoSubjectError: None of ``user_id``, ``events`` and ``state`` was given.
            UnknownUserError: The user is not known, and there are neither events nor a state.
            InvalidStateError: The state is none.
            StaleStateError: The state is of another bundle.
            InvalidFieldError: A field breaks its rule.
        """
        if not 1 <= len(item_ids) <= MAX_LIMIT:
            raise InvalidFieldError(
                "item_ids", f"must be 1 to {MAX_LIMIT} item ids, got {len(item_ids)}"
            )
        for position, item_id in enumerate(item_ids):
            check_id(f"item_ids[{position}]", item_id)
        unknown = [key for key in dict.fromkeys(item_ids) if self._model.items.get(key) is None]
        answer = self.recommend(
            user_id=user_id,
            events=events,
            state=state,
            limit=len(item_ids),
            include_seen=True,
            options=Options(allow_item_ids=item_ids, reasons=reasons),
        )
        return Ranking(answer, unknown)

    def similar_items(
        self,
        item_id: str,
        *,
        limit: int = 10,
        allow_item_ids: Sequence[str] = (),
        conditions: Sequence[Condition] = (),
    ) -> SimilarItems:
        """Find items that people come to in the same company, by the cosine of the embeddings.

        Args:
            item_id: A known item.
            limit: The number of items, 1 to ``MAX_LIMIT``.
            allow_item_ids: See ``Options``.
            conditions: See ``Options``.

        Raises:
            UnknownItemError: The item is not known.
            InvalidFieldError: A field breaks its rule.
        """
        check_limit(limit)
        return find_similar_items(self._model, item_id, limit, allow_item_ids, conditions)

    def _warm(self) -> None:
        """Answer once for a stored user, so that a bundle that cannot answer is found at load."""
        lengths = self._model.histories.lengths
        user = int(np.argmax(lengths > 0))
        try:
            history = self._model.histories.user(user, 50)
            person = Person(self._model, self._model.encoder, history)
            plan = self._recommender.plan(Query(include_seen=True))
            items = finish(self._recommender.recommend(plan, person)).items
            person.neighbours(10)
        except Exception as error:
            raise BundleError(f"{self.name} {self.version}: cannot answer") from error
        if not (np.isfinite(person.vector).all() and len(items)):
            raise BundleError(f"{self.name} {self.version}: answers with no items or not-a-number")


def _itself(answer: _Made) -> _Made:
    return answer
