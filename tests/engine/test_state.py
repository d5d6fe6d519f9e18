"""The carried state: what is sent in parts is answered, bit for bit, as if it were sent whole."""

import dataclasses
import itertools
import random

import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import EventSpec, EventType
from kinrec.engine import (
    Engine,
    Event,
    InvalidStateError,
    NoSubjectError,
    StaleStateError,
    UnknownUserError,
    fingerprint_of,
)
from kinrec.engine.encoder import Encoded
from kinrec.engine.events import NOTHING, EventReader, History
from kinrec.engine.state import State, StateFormat, VerifiedState

CUTS = [[50], [30, 20], [1] * 50, [49, 1], [7, 0, 13, 0, 30]]


def events_of(count, seed=0):
    """Give events with known, unknown and missing items, types and times."""
    draw = random.Random(seed)
    time, events = 1e9, []
    for _ in range(count):
        time += draw.choice([0, 40, 4_000, 400_000, -10])
        item = draw.choice([f"i{draw.randrange(200)}"] * 9 + ["no such item"])
        kind = draw.choice(["view", "view", "cart", "buy", "", "wave"])
        events.append(Event(item, kind, draw.choice([time] * 5 + [None])))
        if draw.random() < 0.2:
            events[-1:] = [events[-1]] * 2
    return events[:count]


def parts_of(events, cuts):
    """Cut events into parts of some lengths."""
    places = np.cumsum([0, *cuts])
    return [events[start:stop] for start, stop in itertools.pairwise(places)]


def answers(engine, **subject):
    """Ask everything about a person; what must be the same to the last bit."""
    encoding = engine.encode(**subject)
    similar = engine.similar_users(**subject)
    answer = engine.recommend(**subject, limit=50)
    assert encoding.state == similar.state == answer.state
    return (
        encoding.vector.tobytes(),
        (similar.user_ids, similar.similarities),
        (answer.item_ids, answer.scores),
        (encoding.known_user, answer.basis, answer.state),
    )


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("user_id", ["", "a newcomer", "known"])
def test_parts_are_answered_as_the_whole(engine, users, cuts, user_id):
    """Fifty events at once or in any parts: the same vector, people, items and next state."""
    if user_id == "known":
        user_id = users[5]
    events = events_of(50, seed=3)
    whole = answers(engine, user_id=user_id, events=events)

    first, *rest = parts_of(events, cuts)
    found = answers(engine, user_id=user_id, events=first)
    for part in rest:
        found = answers(engine, events=part, state=found[-1][-1])

    assert found == whole


@pytest.mark.parametrize("cuts", CUTS)
def test_parts_are_answered_as_the_whole_where_pauses_split_histories(engine, copy, cuts):
    """A pause starts the encoder anew, whether it lies within a part or between two."""
    copy.edit(lambda manifest: manifest["event_spec"].update(session_gap=3_600.0))
    pausing = Engine.load(copy.path)
    events = events_of(50, seed=5)
    whole = answers(pausing, events=events)

    state = b""
    for part in parts_of(events, cuts):
        found = answers(pausing, events=part, state=state)
        state = found[-1][-1]

    assert found == whole
    assert found[0] != answers(engine, events=events)[0]


def test_any_mix_of_calls_and_replicas_carries_the_same(engine, bundle):
    """Each part through another call of another engine over the same bundle changes nothing."""
    engines = [engine, Engine.load(bundle)]
    events = events_of(60, seed=4)
    state, calls = b"", ("encode", "recommend", "similar_users")
    for place, event in enumerate(events):
        call = getattr(engines[place % 2], calls[place % 3])
        state = call(events=[event], state=state).state

    assert answers(engine, state=state) == answers(engine, events=events)


def test_a_state_of_a_known_user_with_nothing_new_is_the_user(engine, users):
    """It is a few bytes, for all else is in the bundle, and is answered as the user id is."""
    state = engine.recommend(user_id=users[7]).state

    assert len(state) < 50
    assert answers(engine, state=state) == answers(engine, user_id=users[7])
    assert engine.encode(state=state).known_user


def test_who_signs_in_keeps_the_state(engine, users):
    """A known user id beside a state leaves the events of the state and makes the person known."""
    events = events_of(20)
    state = engine.encode(events=events).state

    found = engine.similar_users(user_id=users[3], state=state, limit=250)

    assert found.known_user
    assert users[3] not in found.user_ids
    assert engine.similar_users(state=found.state, limit=250).user_ids == found.user_ids
    vectors = [engine.encode(user_id=users[3], state=state), engine.encode(events=events)]
    assert vectors[0].vector.tobytes() == vectors[1].vector.tobytes()


def test_another_user_beside_the_state_of_a_known_one_is_the_person(engine, users):
    """With new events or without, the history is the state's and the person is who the id names."""
    state = engine.encode(user_id=users[2]).state
    for events in ((), events_of(2)):
        found = engine.similar_users(user_id=users[3], state=state, events=events, limit=250)
        assert users[3] not in found.user_ids
        assert users[2] in found.user_ids
        again = engine.similar_users(state=found.state, limit=250)
        assert again.user_ids == found.user_ids


def test_what_a_training_has_learned_meanwhile_is_not_heard_twice(engine, model, users, history_of):
    """Events that the bundle holds of a known user are repeats; from the first new one on all count."""
    user = users[int(np.argmax(model.histories.lengths))]
    stored, new = history_of(user)[-4:], events_of(5, seed=9)
    again = engine.recommend(user_id=user, events=[*stored, *new])

    assert again.event_report.repeated >= 4
    assert again.state == engine.recommend(user_id=user, events=new).state
    in_parts = engine.recommend(user_id=user, events=stored[:2])
    in_parts = engine.recommend(state=in_parts.state, events=[*stored[2:], *new])
    assert in_parts.state == again.state
    assert engine.recommend(user_id=user, events=stored).item_ids == (
        engine.recommend(user_id=user).item_ids
    )


def test_a_state_is_enough_of_a_subject(engine):
    """With a state neither a user id nor events are needed; an empty one is none."""
    state = engine.encode(events=events_of(3)).state
    assert engine.recommend(user_id="a newcomer", state=state).item_ids
    with pytest.raises(NoSubjectError):
        engine.recommend(state=b"")
    with pytest.raises(UnknownUserError):
        engine.recommend(user_id="a newcomer", state=b"")


def test_nothing_usable_gives_no_state(engine):
    """Of whom nothing is known there is nothing to carry."""
    assert engine.recommend(events=[Event("no such item")]).state == b""


def test_the_state_says_of_which_bundle_it_is(engine, copy):
    """Another bundle refuses it, and the fingerprint can be read without loading any."""
    state = engine.encode(events=events_of(5)).state
    assert fingerprint_of(state) == engine.fingerprint
    copy.edit(lambda manifest: manifest.update(version="another"))
    other = Engine.load(copy.path)
    assert other.fingerprint != engine.fingerprint
    for call in (other.encode, other.similar_users, other.recommend):
        with pytest.raises(StaleStateError, match="send the history again"):
            call(state=state)


@pytest.mark.parametrize("data", [b"x", b"kst1", b"kst1" + bytes(15), bytes(500), b"\xff" * 99])
def test_bytes_that_are_no_state_are_refused(engine, data):
    """Whatever the bytes, the engine says what they are not."""
    with pytest.raises(InvalidStateError):
        engine.recommend(state=data)


def test_a_state_that_was_cut_or_changed_never_does_more_than_be_refused(engine):
    """The engine never trusts a number in it: it refuses, or answers from numbers in range."""
    state = engine.encode(events=events_of(20)).state
    draw = random.Random(1)
    for _ in range(300):
        bad = bytearray(state)
        for _ in range(draw.choice([1, 4])):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        try:
            answer = engine.recommend(state=bytes(bad))
        except (InvalidStateError, StaleStateError):
            continue
        assert np.isfinite(answer.scores).all()
    for size in range(1, len(state)):
        with pytest.raises(InvalidStateError):
            engine.recommend(state=state[:size])
    with pytest.raises(InvalidStateError):
        engine.recommend(state=state + b"\0")


def make_format(**changes):
    """Give a format for a small bundle."""
    settings = {
        "users": 5,
        "items": 10,
        "event_types": 3,
        "vector_size": 4,
        "state_length": 9,
        "max_history": 6,
        "with_times": False,
    }
    return StateFormat(b"f" * 16, **(settings | changes))


def some_state(events=3):
    """Give a state of a small bundle."""
    history = History(
        np.arange(events, dtype=np.int32),
        np.arange(events, dtype=np.uint8) % 3,
        np.arange(events) * 60.0,
    )
    states = np.array([2, 2, 2, 0, 1, 2, 3, 4, 5], np.float32)
    return State(2, history, Encoded(np.arange(4, dtype=np.float32), states))


@pytest.mark.parametrize("with_times", [True, False])
def test_what_is_packed_is_unpacked(with_times):
    """All of it; of the times the last alone where the others are not needed."""
    state, form = some_state(), make_format(with_times=with_times)

    found = form.unpack(form.pack(state))

    assert found.user == 2
    assert found.history.items.tolist() == [0, 1, 2]
    assert found.history.event_types.tolist() == [0, 1, 2]
    expected = [0.0, 60.0, 120.0] if with_times else [np.nan, np.nan, 120.0]
    np.testing.assert_array_equal(found.history.times, expected)
    assert found.encoded.vector.tolist() == [0, 1, 2, 3]
    assert found.encoded.states.tolist() == [2, 2, 2, 0, 1, 2, 3, 4, 5]
    assert found.start.time == 120.0


@pytest.mark.parametrize(
    "changes",
    [
        {"users": 2},
        {"items": 2},
        {"event_types": 2},
        {"vector_size": 5},
        {"state_length": 3},
        {"max_history": 2},
        {"with_times": True},
    ],
)
def test_what_does_not_fit_the_bundle_is_refused(changes):
    """Numbers of users, items and types that are not there, and other sizes."""
    with pytest.raises(InvalidStateError):
        make_format(**changes).unpack(make_format().pack(some_state()))


def test_numbers_that_are_none_are_refused():
    """A vector with a not-a-number, and an endless time."""
    state = some_state()
    bad = Encoded(np.array([0, np.nan, 0, 0], np.float32), state.encoded.states)
    with pytest.raises(InvalidStateError):
        make_format().unpack(make_format().pack(state._replace(encoded=bad)))
    endless = dataclasses.replace(state.history, times=np.array([0, 1, np.inf]))
    with pytest.raises(InvalidStateError):
        make_format().unpack(make_format().pack(state._replace(history=endless)))


def test_of_a_verified_state_the_numbers_are_taken_as_they_are():
    """It was written by a server; that it is whole, and of this bundle, is looked at all the same."""
    form, state = make_format(), some_state()
    odd = state._replace(encoded=Encoded(np.full(4, np.inf, np.float32), state.encoded.states))
    packed = form.pack(odd)
    with pytest.raises(InvalidStateError):
        form.unpack(packed)

    assert np.isinf(form.unpack(VerifiedState(packed)).encoded.vector).all()
    with pytest.raises(InvalidStateError):
        form.unpack(VerifiedState(packed[:-1]))
    with pytest.raises(StaleStateError):
        form.unpack(VerifiedState(packed[:4] + bytes(16) + packed[20:]))


class Numbers:
    """Item ids that are their own numbers."""

    def get_all(self, ids):
        """See IdMap."""
        return [int(one) if one.isdecimal() else None for one in ids]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("memory", [3, 100])
@pytest.mark.parametrize("rule", ["immediate", "window", "once", "immediate window once"])
def test_rules_that_look_back_take_the_same_in_parts(rule, memory, seed):
    """A repeat is one whether what it repeats came in the same request or in the state."""
    spec = EventSpec(
        event_types=[EventType(name="view"), EventType(name="like")],
        max_history=memory,
        drop_immediate_repeats="immediate" in rule,
        repeat_window=50.0 if "window" in rule else 0.0,
        once_types=["like"] if "once" in rule else [],
    )
    reader = EventReader(spec, Numbers())
    form = make_format(max_history=memory, with_times=reader.looks_at_times)
    draw = random.Random(seed)
    events = [
        Event(
            str(draw.randrange(4)),
            draw.choice(["view", "like", "", "wave"]),
            draw.choice([None, 10.0 * place]),
        )
        for place in range(30)
    ]

    whole, report = reader.read(events, NOTHING)
    history, items, types, used = NOTHING, [], [], 0
    for event in events:
        new, one = reader.read([event], history)
        used += one.used
        items += new.items.tolist()
        types += new.event_types.tolist()
        history = history.then(new, memory)
        history = form.unpack(form.pack(some_state()._replace(history=history))).history

    assert items == whole.items.tolist()
    assert types == whole.event_types.tolist()
    assert used == report.used + report.truncated
