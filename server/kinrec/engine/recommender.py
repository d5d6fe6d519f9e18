"""Chooses the items that are recommended: what a call asks for is checked, then mixed and arranged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinrec.engine._errors import InvalidFieldError
from kinrec.engine._limits import MAX_LISTED_ITEMS
from kinrec.engine.arrange import Capped, arrange, pool_for
from kinrec.engine.blend import Mixes, search_together
from kinrec.engine.events import are_short, check_id
from kinrec.engine.index import USUAL, Search
from kinrec.engine.mixture import Scope, mix
from kinrec.engine.options import PLAIN, check_limit
from kinrec.engine.reasons import find_reasons
from kinrec.engine.store import FINGERPRINT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kinrec.bundle.v1.manifest_pb2 import Blend
    from kinrec.engine.blend import Person
    from kinrec.engine.columns import Codes
    from kinrec.engine.conditions import Condition
    from kinrec.engine.model import Model
    from kinrec.engine.options import Options, Query
    from kinrec.engine.reasons import Reason
    from kinrec.engine.steps import Steps


NONE: NDArray[np.int64] = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call asks for, checked and looked up.

    Attributes:
        options: What else than whom and how many.
        stop: The place in the ranking before which the page ends; it begins at ``options.skip``.
        depth: The limit of the first page.
        include_seen: Whether items of the history may be recommended.
        blocked: Numbers of items that may not be.
        allowed: bool, (items,), what may be; None for all.
        categories: Of every item, where there is a cap; else None.
    """

    options: Options
    stop: int
    depth: int
    include_seen: bool
    blocked: NDArray[np.int64]
    allowed: NDArray[np.bool_] | None
    categories: Codes | None

    @property
    def search(self) -> Search:
        """Among which items, and how thoroughly, indexes are searched."""
        if self.allowed is None and self.options is PLAIN:
            return USUAL
        within = None if self.allowed is None else np.flatnonzero(self.allowed)
        return Search(within, self.options.search_effort, self.options.exact)


class Found(NamedTuple):
    """What is recommended.

    Attributes:
        items: int64, (n,), numbers.
        scores: float32, (n,).
        more: Whether a later page has more.
        reasons: Of each item, if asked for; else empty.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    more: bool
    reasons: list[Reason]


class Recommender:
    """Recommends from one model by one set of weights.

    Args:
        model: The model.
        blend: Its mixes are the weights of the sources; all else of the blend is the model's.

    Attributes:
        identity: What tells the model and the weights from all others, as long as a fingerprint.
    """

    def __init__(self, model: Model, blend: Blend) -> None:
        self._model = model
        self._mixes = Mixes(blend)
        weights = repr([(mix.min_events, sorted(mix.weights.items())) for mix in blend.mixes])
        digest = hashlib.sha256(model.fingerprint + weights.encode()).digest()
        self.identity = digest[:FINGERPRINT_BYTES]
        # It was fitted to the model's own weights.
        self._ranker = model.ranker if blend.HasField("ranker") else None
        self._discount = model.popularity.discount(model.manifest.blend.popularity_discount)

    def plan(self, query: Query) -> Plan:
        """Check what a call asks for, before anything is looked up of the person.

        Raises:
            InvalidFieldError: A field breaks its rule.
        """
        model, options, cap = self._model, query.options, query.options.category_cap
        check_limit(query.limit)
        if options is not PLAIN:
            options.check()
        include_seen = query.include_seen
        if include_seen is None:
            include_seen = model.manifest.event_spec.include_seen_default
        categories = None
        if cap is not None:
            categories = model.attributes.codes(cap.attribute, field="category_cap.attribute")
        return Plan(
            options=options,
            stop=options.skip + query.limit,
            depth=options.depth or query.limit,
            include_seen=include_seen,
            blocked=_numbers(model, "exclude_item_ids", query.exclude_item_ids),
            allowed=allowed_items(model, options.allow_item_ids, options.conditions),
            categories=categories,
        )

    def search_together(self, asked: Iterable[tuple[Plan, Person]]) -> None:
        """Search at once for all people, of some events each, who are searched for in the same way."""
        alike: dict[tuple[int, frozenset[str]], list[Person]] = {}
        for plan, person in asked:
            if plan.options.exact or plan.options.search_effort > 1:
                continue
            count = max(self._model.manifest.blend.candidates, plan.depth)
            alike.setdefault((count, frozenset(self._weights(plan, person))), []).append(person)
        for (count, sources), people in alike.items():
            search_together(self._model, people, count, sources=sources)

    def recommend(self, plan: Plan, person: Person) -> Steps[Found]:
        """Find the page that a plan asks for."""
        model, options = self._model, plan.options
        person.search = plan.search
        weights = self._weights(plan, person)
        blocked: NDArray[np.integer] = plan.blocked
        if not plan.include_seen:
            seen = person.history.items
            blocked = np.concatenate([blocked, seen]) if len(blocked) else seen
        ranker = self._ranker
        if ranker is not None and ranker.include_seen != plan.include_seen:
            ranker = None
        pool = pool_for(plan.depth)
        # Of nobody's history only popular items come, and the pool must be the same for every page.
        fills = [max(plan.stop + 1, pool if options.diversity else 0) + len(blocked)]
        if plan.categories is not None:
            # Any number of the best may be passed over, though that seldom happens.
            fills.append(model.manifest.item_count)
        for fill in fills:
            scope = Scope(plan.allowed, blocked, plan.depth, fill, options.min_score)
            mixture = yield from mix(model, person, weights, scope, self._discount, ranker)
            yield
            items, scores = arrange(
                mixture,
                plan.stop + 1,
                pool=pool,
                diversity=options.diversity,
                vectors=model.item_vectors,
                cap=_cap(plan),
            )
            if len(items) > plan.stop:
                break
        page = slice(options.skip, plan.stop)
        reasons: list[Reason] = []
        if options.reasons:
            yield
            reasons = find_reasons(model, person, weights, mixture, items[page])
        return Found(items[page], scores[page], len(items) > plan.stop, reasons)

    def _weights(self, plan: Plan, person: Person) -> Mapping[str, float]:
        """Give the weights of the sources; none for a person of whom nothing is known."""
        events = len(person.history)
        return self._mixes.of(events, include_seen=plan.include_seen) if events else {}


def allowed_items(
    model: Model, item_ids: Sequence[str], conditions: Sequence[Condition]
) -> NDArray[np.bool_] | None:
    """Say which items a list, if it is not empty, and conditions leave; None without either.

    Raises:
        InvalidFieldError: A field breaks its rule.
    """
    allowed = model.attributes.mask(conditions) if conditions else None
    if item_ids:
        listed = np.zeros(model.manifest.item_count, np.bool_)
        listed[_numbers(model, "allow_item_ids", item_ids)] = True
        allowed = listed if allowed is None else allowed & listed
    return allowed


def _numbers(model: Model, field: str, item_ids: Sequence[str]) -> NDArray[np.int64]:
    if not item_ids:
        return NONE
    if len(item_ids) > MAX_LISTED_ITEMS:
        rule = f"at most {MAX_LISTED_ITEMS} are allowed, got {len(item_ids)}"
        raise InvalidFieldError(field, rule)
    numbers = model.items.get_all(item_ids)
    if None in numbers:
        if not are_short(item_ids):  # known ids keep the rules
            for position, item_id in enumerate(item_ids):
                check_id(f"{field}[{position}]", item_id)
        numbers = [number for number in numbers if number is not None]
    return np.fromiter(numbers, np.int64, len(numbers))


def _cap(plan: Plan) -> Capped | None:
    cap = plan.options.category_cap
    if cap is None or plan.categories is None:
        return None
    return Capped(*plan.categories, cap.limit)
