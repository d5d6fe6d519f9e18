"""Whom a call is about: a user id, a state and events, read into one person."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kinrec.engine._errors import NoSubjectError, UnknownUserError
from kinrec.engine.blend import Person
from kinrec.engine.events import NOTHING, check_id
from kinrec.engine.stages import listener
from kinrec.engine.state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinrec.engine._types import Event, EventReport
    from kinrec.engine.blend import EncodesHistories
    from kinrec.engine.model import Model


class Subject(NamedTuple):
    """A person, and what became of the events that came with the call."""

    person: Person
    report: EventReport

    @property
    def is_known(self) -> bool:
        """Whether it is a user of the model."""
        return self.person.user is not None

    @property
    def has_history(self) -> bool:
        """Whether anything usable is known of it."""
        return len(self.person.history) > 0


def read_subject(
    model: Model,
    encoder: EncodesHistories,
    user_id: str,
    events: Sequence[Event],
    state: bytes,
) -> Subject:
    """Find the person, with the history that comes before the events.

    Raises:
        NoSubjectError: None of the three was given.
        UnknownUserError: The user is not known, and there are neither events nor a state.
        InvalidStateError: The state is none.
        StaleStateError: The state is of another bundle.
        InvalidFieldError: A field breaks its rule.
    """
    if not (user_id or len(events) or state):
        raise NoSubjectError
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
    listener.get().note_events(report)
    if stored is not None and not len(new) and user in (None, stored):
        return Subject(Person.stored(model, encoder, stored), report)
    person = Person.after(model, encoder, before, new)
    if user is not None or stored is not None:
        person.user = user if user is not None else stored
    return Subject(person, report)
