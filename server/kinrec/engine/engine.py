"""The engine: loads a bundle once and answers from it, in process and from many threads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinrec.bundle.v1.manifest_pb2 import Blend, Mix
from kinrec.engine._errors import (
    BundleError,
    EngineError,
    InvalidFieldError,
    NoSubjectError,
    UnknownItemError,
    UnknownUserError,
)
from kinrec.engine._limits import MAX_LIMIT, MAX_LISTED_ITEMS, MAX_REQUESTS, MAX_SHARED_ITEMS
from kinrec.engine._types import (
    Basis,
    Encoding,
    EventReport,
    Ranking,
    Recommendations,
    SimilarItems,
    SimilarUsers,
)
from kinrec.engine.arrange import Capped, arrange, pool_for
from kinrec.engine.blend import Mixes, Person, encode_together, search_together
from kinrec.engine.encoder import BatchingEncoder
from kinrec.engine.events import NOTHING, check_id
from kinrec.engine.index import Search, products, take_best
from kinrec.engine.mixture import Scope, mix
from kinrec.engine.model import Model
from kinrec.engine.options import PLAIN, Options, Query
from kinrec.engine.reasons import find_reasons
from kinrec.engine.state import State

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine._types import Event
    from kinrec.engine.attributes import Codes
    from kinrec.engine.reasons import Reason


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a call asks for, checked and looked up.

    Attributes:
        include_seen: Whether items of the history may be recommended.
        blocked: Numbers of items that may not be.
        allowed: bool, (items,), what may be; None for all.
        cap: The categories of every item; None without a cap.
    """

    include_seen: bool
    blocked: NDArray[np.int64]
    allowed: NDArray[np.bool_] | None
    cap: Codes | None


class Engine:
    """Answers from one bundle. Make one with ``load``; every method may be called by many threads.

    Example:
        >>> engine = Engine.load("models/shop")  # doctest: +SKIP
        >>> engine.recommend(events=[Event("i7", "view")], limit=5).item_ids  # doctest: +SKIP
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ranking = model.fingerprint
        self._encoder = BatchingEncoder(model.encoder)
        self._mixes = Mixes(model.manifest.blend)
        self._lengths = np.linalg.norm(model.item_vectors, axis=1)
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

    def with_weights(self, weights: Mapping[str, float]) -> Engine:
        """Give an engine over the same model that mixes the sources by these weights for everyone.

        Args:
            weights: By the names of ``SOURCES``; what is not named has none. One is above zero.
        """
        other = Engine(self._model)
        mix = Mix(min_events=1, weights=weights, weights_with_seen=weights)
        other._mixes = Mixes(Blend(mixes=[mix]))
        named = repr(sorted(weights.items())).encode()
        other._ranking = hashlib.sha256(self.fingerprint + named).digest()[: len(self.fingerprint)]
        return other

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
        return self._ranking

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

    def item_ids(self, start: int, stop: int) -> list[str]:
        """Give the ids of the items from one place in the bundle up to another, or to the last."""
        items = self._model.items
        return [items.key(number) for number in range(start, min(stop, len(items)))]

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
        return self._encoding(subject)

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
        _check_limit(limit)
        if not 0 <= shared_items <= MAX_SHARED_ITEMS:
            rule = f"must be from 0 to {MAX_SHARED_ITEMS}, is {shared_items}"
            raise InvalidFieldError("shared_items", rule)
        Options(search_effort=search_effort, exact=exact).check()
        subject = self._subject(user_id, events, state)
        subject.person.search = Search(None, search_effort, exact)
        ids: list[str] = []
        cosines: list[float] = []
        shared: list[list[str]] = []
        if subject.has_history:
            numbers, similarities = subject.person.neighbours(limit)
            ids = [self._model.users.key(number) for number in numbers.tolist()]
            cosines = np.clip(similarities, -1.0, 1.0).tolist()
            if shared_items:
                shared = [
                    self._shared(subject.person, number, shared_items)
                    for number in numbers.tolist()
                ]
        state = self._state(subject.person)
        return SimilarUsers(ids, cosines, subject.report, subject.is_known, state, shared)

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
        return self.answer(
            Query(user_id, events, state, limit, include_seen, exclude_item_ids, options)
        )

    def answer(self, query: Query) -> Recommendations:
        """Recommend what a query asks for; see ``recommend``."""
        plan = self._plan(query)
        subject = self._subject(query.user_id, query.events, query.state)
        return self._recommend(query, plan, subject)

    def recommend_many(self, queries: Sequence[Query]) -> list[Recommendations | EngineError]:
        """Recommend for many people, who are encoded together.

        Args:
            queries: At most ``MAX_REQUESTS``, each as for ``recommend``.

        Returns:
            For each what ``recommend`` returns or raises, in order; scores may differ by rounding.

        Raises:
            InvalidFieldError: There are too many.
        """
        _check_batch(len(queries))
        asked: list[tuple[Query, _Plan, _Subject] | EngineError] = []
        for query in queries:
            try:
                plan = self._plan(query)
                subject = self._subject(query.user_id, query.events, query.state)
                asked.append((query, plan, subject))
            except EngineError as error:
                asked.append(error)
        answered = [one for one in asked if not isinstance(one, EngineError)]
        self._encode_together([subject for _, _, subject in answered])
        self._search_together(answered)
        return [one if isinstance(one, EngineError) else self._recommend(*one) for one in asked]

    def encode_many(self, queries: Sequence[Query]) -> list[Encoding | EngineError]:
        """Encode many people's behaviour together.

        Args:
            queries: At most ``MAX_REQUESTS``, of which the user id, the events and the state count.

        Returns:
            For each what ``encode`` returns or raises, in order.

        Raises:
            InvalidFieldError: There are too many.
        """
        _check_batch(len(queries))
        asked: list[_Subject | EngineError] = []
        for query in queries:
            try:
                asked.append(self._subject(query.user_id, query.events, query.state))
            except EngineError as error:
                asked.append(error)
        self._encode_together([one for one in asked if not isinstance(one, EngineError)])
        return [one if isinstance(one, EngineError) else self._encoding(one) for one in asked]

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
        self, item_id: str, *, limit: int = 10, options: Options = PLAIN
    ) -> SimilarItems:
        """Find items that people come to in the same company, by the cosine of the embeddings.

        Args:
            item_id: A known item.
            limit: The number of items, 1 to ``MAX_LIMIT``.
            options: Of which the allowed ids and the conditions count.

        Raises:
            UnknownItemError: The item is not known.
            InvalidFieldError: A field breaks its rule.
        """
        _check_limit(limit)
        if not item_id:
            raise InvalidFieldError("item_id", "must not be empty")
        check_id("item_id", item_id)
        item = self._model.items.get(item_id)
        if item is None:
            raise UnknownItemError
        allowed = self._allowed(options)
        vectors = self._model.item_vectors
        others = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
        others = others[others != item]
        cosines = products(vectors, others, vectors[item])
        cosines = cosines / np.maximum(self._lengths[others] * self._lengths[item], 1e-12)
        numbers, found = take_best(others, np.clip(cosines, -1.0, 1.0), limit)
        return SimilarItems(
            [self._model.items.key(number) for number in numbers.tolist()],
            found.tolist(),
            self._model.titles.of(numbers.tolist()),
            None if allowed is None else int(allowed.sum()),
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

    def _shared(self, person: Person, user: int, most: int) -> list[str]:
        """Give the items that a person and a user both did something with, the person's last first."""
        theirs = set(self._model.histories.user(user).items.tolist())
        own = dict.fromkeys(person.history.items[::-1].tolist())
        return [self._model.items.key(item) for item in own if item in theirs][:most]

    def _state(self, person: Person) -> bytes:
        state = person.state
        return b"" if state is None else self._model.states.pack(state)

    def _encoding(self, subject: _Subject) -> Encoding:
        vector = subject.person.vector if subject.has_history else np.zeros(0, np.float32)
        return Encoding(vector, subject.report, subject.is_known, self._state(subject.person))

    def _encode_together(self, subjects: Sequence[_Subject]) -> None:
        """Encode everyone who is not yet, in batches of like lengths."""
        waiting = [subject.person for subject in subjects if subject.has_history]
        encode_together(self._model.encoder, waiting)

    def _search_together(self, asked: Sequence[tuple[Query, _Plan, _Subject]]) -> None:
        """Search at once for all who are searched for in the same way."""
        alike: dict[tuple[int, frozenset[str]], list[Person]] = {}
        for query, plan, subject in asked:
            options = query.options
            if not subject.has_history or options.exact or options.search_effort > 1:
                continue
            events = len(subject.person.history)
            sources = frozenset(self._mixes.of(events, include_seen=plan.include_seen))
            count = max(self.manifest.blend.candidates, options.depth or query.limit)
            alike.setdefault((count, sources), []).append(subject.person)
        for (count, sources), people in alike.items():
            search_together(self._model, people, count, sources=sources)

    def _numbers(self, field: str, item_ids: Sequence[str]) -> NDArray[np.int64]:
        if len(item_ids) > MAX_LISTED_ITEMS:
            raise InvalidFieldError(
                field, f"at most {MAX_LISTED_ITEMS} are allowed, got {len(item_ids)}"
            )
        for position, item_id in enumerate(item_ids):
            check_id(f"{field}[{position}]", item_id)
        found = (self._model.items.get(item_id) for item_id in item_ids)
        return np.array([number for number in found if number is not None], np.int64)

    def _allowed(self, options: Options) -> NDArray[np.bool_] | None:
        """Say which items the allowed ids and the conditions leave; None without either."""
        allowed = None
        if options.conditions:
            allowed = self._model.attributes.mask(options.conditions)
        if options.allow_item_ids:
            listed = np.zeros(self.manifest.item_count, np.bool_)
            listed[self._numbers("allow_item_ids", options.allow_item_ids)] = True
            allowed = listed if allowed is None else allowed & listed
        return allowed

    def _plan(self, query: Query) -> _Plan:
        """Check what a call asks for, before anything is looked up of the person."""
        _check_limit(query.limit)
        options = query.options
        options.check()
        include_seen = query.include_seen
        if include_seen is None:
            include_seen = self.manifest.event_spec.include_seen_default
        cap = options.category_cap
        return _Plan(
            include_seen=include_seen,
            blocked=self._numbers("exclude_item_ids", query.exclude_item_ids),
            allowed=self._allowed(options),
            cap=None
            if cap is None
            else self._model.attributes.codes(cap.attribute, field="category_cap.attribute"),
        )

    def _recommend(self, query: Query, plan: _Plan, subject: _Subject) -> Recommendations:
        model, options, person = self._model, query.options, subject.person
        if plan.allowed is not None or options.exact or options.search_effort > 1:
            within = None if plan.allowed is None else np.flatnonzero(plan.allowed)
            person.search = Search(within, options.search_effort, options.exact)
        weights: Mapping[str, float] = {}
        blocked = plan.blocked
        if subject.has_history:
            weights = self._mixes.of(len(person.history), include_seen=plan.include_seen)
            if not plan.include_seen:
                blocked = np.concatenate([blocked, person.history.items])
        last = options.skip + query.limit
        depth = options.depth or query.limit
        pool = pool_for(depth)
        # Of nobody's history only popular items come, and the pool must be the same for every page.
        fill = max(last + 1, pool if options.diversity else 0) + len(blocked)
        # With a cap any number of the best may be passed over, though that seldom happens.
        fills = [fill]
        if plan.cap is not None:
            fills.append(model.manifest.item_count)
        for fill in fills:
            scope = Scope(plan.allowed, blocked, depth, fill)
            mixture = mix(model, person, weights, self._discount, scope)
            if options.min_score > 0.0:
                mixture = mixture.above(options.min_score)
            cap = None
            if options.category_cap is not None and plan.cap is not None:
                cap = Capped(*plan.cap, options.category_cap.limit)
            numbers, scores = arrange(
                mixture,
                last + 1,
                pool=pool,
                diversity=options.diversity,
                vectors=model.item_vectors,
                cap=cap,
            )
            if len(numbers) > last:
                break
        more = len(numbers) > last
        numbers, scores = numbers[options.skip : last], scores[options.skip : last]
        reasons: list[Reason] = []
        if options.reasons and len(numbers):
            reasons = find_reasons(model, person, weights, mixture, numbers)
        named = numbers.tolist()
        return Recommendations(
            [model.items.key(number) for number in named],
            scores.tolist(),
            model.titles.of(named),
            Basis.PERSONAL if subject.has_history else Basis.POPULAR,
            subject.report,
            subject.is_known,
            self._state(person),
            None if plan.allowed is None else int(plan.allowed.sum()),
            more,
            reasons,
        )

    def _warm(self) -> None:
        """Answer once for a stored user, so that a bundle that cannot answer is found at load."""
        lengths = self._model.histories.lengths
        user = int(np.argmax(lengths > 0))
        try:
            history = self._model.histories.user(user, 50)
            person = Person(self._model, self._encoder, history)
            nothing = np.zeros(0, np.int64)
            weights = self._mixes.of(len(history), include_seen=True)
            scope = Scope(None, nothing, 10, 10)
            numbers, _ = mix(self._model, person, weights, self._discount, scope).best(10)
            person.neighbours(10)
        except Exception as error:
            raise BundleError(f"{self.name} {self.version}: cannot answer") from error
        if not (np.isfinite(person.vector).all() and len(numbers)):
            raise BundleError(f"{self.name} {self.version}: answers with no items or not-a-number")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidFieldError("limit", f"must be from 1 to {MAX_LIMIT}, is {limit}")


def _check_batch(size: int) -> None:
    if size > MAX_REQUESTS:
        raise InvalidFieldError("requests", f"at most {MAX_REQUESTS} are allowed, got {size}")
