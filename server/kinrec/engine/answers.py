"""Makes answers from one model: reads whom a question is about, and puts together what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kinrec.engine._errors import EngineError, InvalidFieldError
from kinrec.engine._limits import MAX_REQUESTS
from kinrec.engine._types import Basis, Encoding, Recommendations
from kinrec.engine.blend import encode_together
from kinrec.engine.encoder import MAX_BATCH
from kinrec.engine.stages import ANSWER, READ, SEARCH, listener
from kinrec.engine.steps import finish_together
from kinrec.engine.subject import read_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kinrec.engine.blend import Person
    from kinrec.engine.model import Model
    from kinrec.engine.options import Query
    from kinrec.engine.recommender import Plan, Recommender
    from kinrec.engine.steps import Steps
    from kinrec.engine.subject import Subject

_Read = TypeVar("_Read")


class Answers:
    """Makes answers.

    Args:
        model: The model.
        recommender: Finds what is recommended from it.
    """

    def __init__(self, model: Model, recommender: Recommender) -> None:
        self._model = model
        self._recommender = recommender

    def read_person(self, query: Query) -> tuple[None, Subject]:
        """Find the person of a question that asks for nothing else; see ``read_subject``."""
        listener.get().enter(READ)
        return None, read_subject(
            self._model, self._model.encoder, query.user_id, query.events, query.state
        )

    def read(self, query: Query) -> tuple[Plan, Subject]:
        """Find what a question asks for, and of whom; see ``Recommender.plan`` and ``read_subject``."""
        listener.get().enter(READ)
        plan = self._recommender.plan(query)
        return plan, self.read_person(query)[1]

    def encode_together(self, subjects: Iterable[Subject]) -> None:
        """Encode everyone who is not yet, in batches of like lengths."""
        people = [subject.person for subject in subjects if subject.has_history]
        encode_together(self._model.encoder, people)

    def state_of(self, person: Person) -> bytes:
        """Give where a person stands; empty if nothing is known of it."""
        state = person.state
        return b"" if state is None else self._model.states.pack(state)

    def encoding(self, subject: Subject) -> Encoding:
        """Give what is answered about a person's vector."""
        vector = subject.person.vector if subject.has_history else np.zeros(0, np.float32)
        listener.get().enter(ANSWER)
        return Encoding(vector, subject.report, subject.is_known, self.state_of(subject.person))

    def recommendations(self, plan: Plan, subject: Subject) -> Steps[Recommendations]:
        """Find what is recommended to a person."""
        heard_by = listener.get()
        heard_by.enter(SEARCH)
        found = yield from self._recommender.recommend(plan, subject.person)
        yield
        heard_by.enter(ANSWER)
        items = found.items.tolist()
        return Recommendations(
            self._model.items.keys_of(items),
            found.scores.tolist(),
            self._model.titles.of(items),
            Basis.PERSONAL if subject.has_history else Basis.POPULAR,
            subject.report,
            subject.is_known,
            self.state_of(subject.person),
            None if plan.allowed is None else int(plan.allowed.sum()),
            found.more,
            found.reasons,
        )

    def recommend_together(
        self, asked: Sequence[tuple[Plan, Subject]]
    ) -> Iterator[Recommendations]:
        """Give what is recommended to each of many people, who are searched for together."""
        self.encode_together(subject for _, subject in asked)
        self._recommender.search_together(
            (plan, subject.person) for plan, subject in asked if subject.has_history
        )
        heard_by = listener.get()
        # Some at a time: what is found of each stays until all of them are answered.
        for start in range(0, len(asked), MAX_BATCH):
            part = asked[start : start + MAX_BATCH]
            for made in finish_together((heard_by, self.recommendations(*one)) for one in part):
                if isinstance(made, Exception):
                    raise made
                yield made


def read_each(
    queries: Sequence[Query], read: Callable[[Query], _Read]
) -> list[_Read | EngineError]:
    """Read each query, and give the error in the place of one that breaks a rule.

    Raises:
        InvalidFieldError: There are too many.
    """
    if len(queries) > MAX_REQUESTS:
        rule = f"at most {MAX_REQUESTS} are allowed, got {len(queries)}"
        raise InvalidFieldError("requests", rule)
    found: list[_Read | EngineError] = []
    for query in queries:
        try:
            found.append(read(query))
        except EngineError as error:
            found.append(error)
    return found
