"""Which engine answers a call: the current one, the one before it, or a variant's."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from kinrec.engine import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kinrec.bundle.v1.manifest_pb2 import Manifest
    from kinrec.engine import (
        Condition,
        Encoding,
        EngineError,
        Event,
        Query,
        Ranking,
        Recommendations,
        SimilarItems,
        SimilarUsers,
    )
    from kinrec.server.experiments import Experiment

    _Made = TypeVar("_Made")


class RecommenderEngine(Protocol):
    """What the server asks of an engine; `kinrec.engine.Engine` is one. Safe to call from threads."""

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str:
        """The model's version."""

    @property
    def fingerprint(self) -> bytes:
        """What tells the bundle from every other."""

    @property
    def ranking(self) -> bytes:
        """What tells the order of its answers from that of every other engine's."""

    def encode_for(self, query: Query, then: Callable[[Encoding], _Made]) -> _Made:
        """Encode a person's behaviour, and give what is made of it."""

    def encode_many(self, queries: Sequence[Query]) -> list[Encoding | EngineError]:
        """Encode many people's behaviour."""

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
        """Find the known users who behave most alike."""

    def recommend_for(self, query: Query, then: Callable[[Recommendations], _Made]) -> _Made:
        """Recommend items, and give what is made of them."""

    def recommend_many(self, queries: Sequence[Query]) -> list[Recommendations | EngineError]:
        """Recommend items for many people."""

    def rank(
        self,
        item_ids: Sequence[str],
        *,
        user_id: str = "",
        events: Sequence[Event] = (),
        state: bytes = b"",
        reasons: bool = False,
    ) -> Ranking:
        """Put items in order."""

    def similar_items(
        self,
        item_id: str,
        *,
        limit: int = 10,
        allow_item_ids: Sequence[str] = (),
        conditions: Sequence[Condition] = (),
    ) -> SimilarItems:
        """Find items like another."""


class Choice(NamedTuple):
    """The engine of a call.

    Attributes:
        engine: What answers.
        variant: The name of the person's variant; empty without an experiment or a user id.
        is_expected: Whether a call without a state would be answered by the same model.
    """

    engine: RecommenderEngine
    variant: str
    is_expected: bool


class Engines:
    """The engines of a server, while it serves one version.

    Args:
        current: Answers all else.
        previous: The one before, which answers the states it gave; None if no other answers.
        previous_until: Seconds since 1970 UTC after which the previous one answers no more.
        experiment: Shares people among variants; None for no experiment.
        variants: The engine of each variant of the experiment, by name.

    Attributes:
        current: Answers all else.
        following: What will be served next; it answers the states that workers which serve it already
            have given.
    """

    def __init__(
        self,
        current: RecommenderEngine,
        previous: RecommenderEngine | None = None,
        previous_until: float = math.inf,
        *,
        experiment: Experiment | None = None,
        variants: Mapping[str, RecommenderEngine] | None = None,
    ) -> None:
        self.current = current
        self._previous = previous
        self._until = previous_until
        self._experiment = experiment
        self._variants = variants or {}
        self.following: Engines | None = None

    def of(self, state: bytes, user_id: str = "") -> Choice:
        """Find the engine for a person, who may come with a state of another one that is here."""
        expected, variant = self.current, ""
        if self._experiment is not None and user_id:
            variant = self._experiment.assign(user_id).name
            expected = self._variants[variant]
        previous = self._previous
        if previous is not None and time.time() >= self._until:
            previous = self._previous = None  # its memory is of no more use
        following = self.following
        if state and (previous is not None or self._variants or following is not None):
            fingerprint = fingerprint_of(state)
            if fingerprint != expected.fingerprint:
                for engine in (self.current, *self._variants.values(), previous):
                    if engine is not None and engine.fingerprint == fingerprint:
                        return Choice(engine, "", is_expected=False)
                if following is not None and following.current.fingerprint == fingerprint:
                    return following.of(state, user_id)
        return Choice(expected, variant, is_expected=True)
