"""The engine's answers, from a trained bundle."""

import threading

import numpy as np
import pytest

from kinrec.engine import (
    MAX_LIMIT,
    MAX_LISTED_ITEMS,
    Basis,
    Engine,
    Event,
    EventReport,
    InvalidFieldError,
    NoSubjectError,
    UnknownUserError,
)

NEWCOMER = "nobody the model knows"
UNKNOWN_EVENTS = [Event("no such item", "view"), Event("nor this one")]


@pytest.fixture(scope="module")
def catalogue(model):
    """The ids of all items."""
    return {model.items.key(number) for number in range(len(model.items))}


def same(one, other):
    """Whether two answers name the same ids with the same numbers, bit for bit."""
    return (one.item_ids, one.scores) == (other.item_ids, other.scores)


def test_encode_a_known_user(engine, model, users):
    """A known user's vector is the stored one; no events were received."""
    encoding = engine.encode(user_id=users[5])

    np.testing.assert_array_equal(encoding.vector, model.user_vectors[5])
    assert encoding.vector.shape == (engine.manifest.encoder.vector_size,)
    assert encoding.known_user
    assert encoding.event_report == EventReport()


def test_a_newcomer_with_a_users_events_gets_the_users_answers(engine, users, history_of):
    """Who sends the history of a known user is encoded and advised as that user is."""
    for user in users[:20]:
        events = history_of(user)
        known, new = engine.encode(user_id=user), engine.encode(events=events)
        np.testing.assert_array_equal(known.vector, new.vector)
        assert not new.known_user
        assert new.event_report.used == len(events)
        assert engine.similar_users(events=events).user_ids[0] == user


def test_stored_history_and_new_events(engine, users, history_of):
    """Events given with a user id continue the stored history."""
    user, new = users[3], [Event("i7", "buy", 2e9), Event("i8", "view", 2e9 + 60)]

    both = engine.encode(user_id=user, events=new)
    whole = engine.encode(events=[*history_of(user), *new])

    np.testing.assert_array_equal(both.vector, whole.vector)
    assert not np.array_equal(both.vector, engine.encode(user_id=user).vector)
    assert both.known_user
    assert both.event_report.received == 2


def test_an_unknown_user_id_with_events(engine):
    """An unknown user id does no harm beside events, and the answer says that it is unknown."""
    events = [Event("i7", "view"), Event("i9", "buy")]

    named, unnamed = (
        engine.recommend(user_id=NEWCOMER, events=events),
        engine.recommend(events=events),
    )

    assert same(named, unnamed)
    assert not named.known_user
    assert named.basis is Basis.PERSONAL


@pytest.mark.parametrize("method", ["encode", "similar_users", "recommend"])
def test_refusals_that_all_calls_share(engine, method):
    """No subject, an unknown user alone and bad fields are refused by name, whatever is called."""
    call = getattr(engine, method)

    with pytest.raises(NoSubjectError, match="user_id, events, state: at least one"):
        call()
    with pytest.raises(UnknownUserError, match="user_id: not known"):
        call(user_id=NEWCOMER)
    with pytest.raises(InvalidFieldError, match="user_id: must have at most 512 bytes, has 513"):
        call(user_id="u" * 513)
    with pytest.raises(InvalidFieldError, match=r"events\[0\].item_id: must not be empty"):
        call(events=[Event("")])


@pytest.mark.parametrize("method", ["similar_users", "recommend"])
@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1, 2**40])
def test_limits_out_of_range(engine, method, limit):
    """A limit outside 1 to 1000 is refused."""
    with pytest.raises(InvalidFieldError, match=f"limit: must be from 1 to 1000, is {limit}"):
        getattr(engine, method)(events=[Event("i7")], limit=limit)


def test_excluded_items_are_checked(engine):
    """Too many excluded items, or an empty id among them, are refused."""
    events = [Event("i7")]
    with pytest.raises(InvalidFieldError, match=f"exclude_item_ids: at most {MAX_LISTED_ITEMS}"):
        engine.recommend(events=events, exclude_item_ids=["x"] * (MAX_LISTED_ITEMS + 1))
    with pytest.raises(InvalidFieldError, match=r"exclude_item_ids\[1\]: must not be empty"):
        engine.recommend(events=events, exclude_item_ids=["i7", ""])


def test_seen_items_are_left_out_unless_asked_for(engine, users, history_of, catalogue):
    """Nobody is recommended what they have done, stored or sent, unless that is asked for."""
    new = [Event("i7"), Event("i9")]
    for user in users[:20]:
        seen = {event.item_id for event in [*history_of(user), *new]}
        answer = engine.recommend(user_id=user, events=new, limit=MAX_LIMIT, include_seen=False)
        assert set(answer.item_ids) == catalogue - seen
        everything = engine.recommend(user_id=user, events=new, limit=MAX_LIMIT, include_seen=True)
        assert set(everything.item_ids) == catalogue


def test_the_models_default_for_seen_items(engine, users):
    """Saying what the model does by default changes nothing."""
    by_default = engine.manifest.event_spec.include_seen_default
    for user in users[:20]:
        answers = {
            seen: engine.recommend(user_id=user, include_seen=seen) for seen in (None, True, False)
        }
        assert same(answers[None], answers[by_default])
        assert not same(answers[None], answers[not by_default])


def test_excluded_items(engine, users):
    """Excluded items are not recommended and the rest move up; unknown ids do no harm."""
    before = engine.recommend(user_id=users[2], limit=20)
    excluded = [before.item_ids[0], before.item_ids[3], "no such item"]

    after = engine.recommend(user_id=users[2], limit=18, exclude_item_ids=excluded)

    left = [item for item in before.item_ids if item not in excluded]
    assert after.item_ids[:10] == left[:10]
    assert not set(after.item_ids) & set(excluded)


@pytest.mark.parametrize("limit", [1, 2, 50, 199, 200, MAX_LIMIT])
def test_answers_are_full(engine, catalogue, limit):
    """An answer has as many distinct items as asked for, or all there are."""
    answer = engine.recommend(events=[Event("i7"), Event("i9")], limit=limit, include_seen=True)

    assert len(answer.item_ids) == len(set(answer.item_ids)) == min(limit, len(catalogue))
    assert len(answer.scores) == len(answer.titles) == len(answer.item_ids)


def test_answers_are_full_when_sources_propose_little(copy, catalogue, users, history_of):
    """Popular items fill what is asked for when the sources propose few and those are left out."""
    mix = {"min_events": 1, "weights": {"sequence": 1.0}}
    copy.edit(lambda manifest: manifest["blend"].update(candidates=5, mixes=[mix]))
    engine = Engine.load(copy.path)
    for user in users[:20]:
        seen = {event.item_id for event in history_of(user)}
        excluded = engine.recommend(user_id=user, limit=30, include_seen=False).item_ids
        answer = engine.recommend(
            user_id=user, limit=100, exclude_item_ids=excluded, include_seen=False
        )
        left = catalogue - seen - set(excluded)
        assert set(answer.item_ids) <= left
        assert len(set(answer.item_ids)) == min(100, len(left))


def test_everything_excluded(engine, catalogue):
    """When no item is left, the answer is empty."""
    answer = engine.recommend(events=[Event("i7")], exclude_item_ids=sorted(catalogue))

    assert answer.item_ids == []


def test_scores_fall(engine, users):
    """The best item comes first and scores are finite."""
    for user in users[:50]:
        scores = np.array(engine.recommend(user_id=user, limit=100).scores)
        assert np.isfinite(scores).all()
        assert (np.diff(scores) <= 0.0).all()


def test_a_longer_answer_starts_as_a_shorter_one(engine, users):
    """The first ten of a hundred are the ten."""
    few, many = (engine.recommend(user_id=users[9], limit=limit) for limit in (10, 100))

    assert many.item_ids[:10] == few.item_ids


def test_a_discount_of_popular_items_shows_more_of_the_catalogue(copy, users):
    """A bundle that asks for it shows other items; who has no history still gets the popular ones."""
    shown, popular = [], []
    for discount in (0.0, 1.0):
        copy.edit(lambda manifest, d=discount: manifest["blend"].update(popularity_discount=d))
        engine = Engine.load(copy.path)
        answers = [engine.recommend(user_id=user, limit=3) for user in users[:100]]
        shown.append({item for answer in answers for item in answer.item_ids})
        popular.append(engine.recommend(events=UNKNOWN_EVENTS).item_ids)

    assert shown[1] != shown[0]
    assert popular[0] == popular[1]


def test_answers_are_personal(engine, users):
    """People of different histories get different items, and the answers say they are personal."""
    answers = [engine.recommend(user_id=user) for user in users[:50]]

    assert len({tuple(answer.item_ids) for answer in answers}) > 40
    assert {answer.basis for answer in answers} == {Basis.PERSONAL}


def test_titles(engine, sample_dir, users):
    """Items come with their titles of the items file."""
    titles = {}
    for line in (sample_dir / "items.csv").read_text("utf-8").splitlines()[1:]:
        item, title = line.split(",")[:2]
        titles[item] = title

    answer = engine.recommend(user_id=users[0], limit=20)

    assert answer.titles == [titles[item] for item in answer.item_ids]
    assert all(answer.titles)


def test_unknown_items_are_reported(engine):
    """Events on unknown items are counted and do not change the answer."""
    known = [Event("i7"), Event("i9")]

    with_unknown = engine.recommend(events=[known[0], *UNKNOWN_EVENTS, known[1]])

    assert same(with_unknown, engine.recommend(events=known))
    assert with_unknown.event_report == EventReport(received=4, used=2, unknown_item=2)


def test_nothing_usable(engine, model):
    """Who sent nothing usable gets popular items, an empty vector and no similar users."""
    answer = engine.recommend(events=UNKNOWN_EVENTS, limit=5)
    encoding = engine.encode(events=UNKNOWN_EVENTS)
    similar = engine.similar_users(events=UNKNOWN_EVENTS)

    popular = model.popularity.shares(5)[0].tolist()
    assert answer.item_ids == [model.items.key(item) for item in popular]
    assert answer.basis is Basis.POPULAR
    assert encoding.vector.shape == (0,)
    assert (similar.user_ids, similar.similarities) == ([], [])
    expected = EventReport(received=2, unknown_item=2)
    assert answer.event_report == encoding.event_report == similar.event_report == expected


def test_a_known_user_with_nothing_usable(engine, users):
    """The stored history answers when the events sent with a user id are not usable."""
    answer = engine.recommend(user_id=users[4], events=UNKNOWN_EVENTS)

    assert same(answer, engine.recommend(user_id=users[4]))
    assert answer.basis is Basis.PERSONAL
    assert answer.event_report.unknown_item == 2


def test_similar_users(engine, model, users):
    """The nearest users by cosine come first, and nobody is similar to themselves."""
    for number, user in enumerate(users):
        answer = engine.similar_users(user_id=user, limit=10)
        assert user not in answer.user_ids
        assert len(set(answer.user_ids)) == 10
        assert answer.similarities == sorted(answer.similarities, reverse=True)
        cosines = model.user_factors @ model.user_factors[number]
        best = np.sort(np.delete(cosines, number))[::-1][:10]
        np.testing.assert_allclose(answer.similarities, best, atol=1e-5)


def test_all_similar_users(engine, users):
    """Asking for more users than there are gives all others."""
    new = [Event("i7")]
    for events in ((), new):
        answer = engine.similar_users(user_id=users[8], events=events, limit=MAX_LIMIT)
        assert sorted(answer.user_ids) == sorted(set(users) - {users[8]})
        assert max(answer.similarities) <= 1.0
    assert sorted(engine.similar_users(events=new, limit=MAX_LIMIT).user_ids) == sorted(users)


def test_an_answer_is_the_same_again(engine, users):
    """The same question twice has the same answer, whatever was asked in between."""
    first = [engine.recommend(user_id=user) for user in users[:30]]
    engine.recommend(events=[Event("i1"), Event("i2")], limit=MAX_LIMIT, include_seen=True)
    second = [engine.recommend(user_id=user) for user in users[:30]]

    assert all(same(*pair) for pair in zip(first, second, strict=True))


def test_threads_get_the_answers_of_one_caller(engine, users, history_of):
    """Eight threads that ask at once get what one caller gets."""
    questions = [history_of(user)[: 1 + place] for place, user in enumerate(users[:40])]
    alone = [engine.recommend(events=events) for events in questions]
    wrong, barrier = [], threading.Barrier(8)

    def ask(shift):
        barrier.wait(10)
        for step in range(len(questions)):
            place = (step + 5 * shift) % len(questions)
            if not same(engine.recommend(events=questions[place]), alone[place]):
                wrong.append(place)

    threads = [threading.Thread(target=ask, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_an_answer_after_a_refusal(engine, users):
    """A refused call leaves nothing behind that changes the next answer."""
    before = engine.recommend(user_id=users[1])
    with pytest.raises(InvalidFieldError):
        engine.recommend(user_id=users[1], events=[Event("i1"), Event("i2", value=float("nan"))])

    assert same(before, engine.recommend(user_id=users[1]))
