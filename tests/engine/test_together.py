"""Calls that are run together: worked on together, and answered as each would be alone."""

import contextlib
import gc
import threading
import weakref
from contextvars import ContextVar, copy_context

import pytest

from kinrec.engine import Event, InvalidFieldError, Query, StaleStateError
from kinrec.engine.together import Batching, Runner

BAD = 1_000


def run_together(calls):
    """Run calls as a server does."""
    runner = Runner()
    runner.run(calls)
    runner.end()


def answers_of(asks):
    """What each of some functions gives or raises when they are run together."""
    found = [None] * len(asks)

    def call(place, ask):
        def run():
            try:
                found[place] = ask()
            except Exception as error:  # noqa: BLE001 - to be looked at
                found[place] = error

        return run

    run_together([call(place, ask) for place, ask in enumerate(asks)])
    return found


def events_of(number):
    """The events of one of many people."""
    return [Event(f"i{(7 * number + 3 * place) % 100}", "view") for place in range(1 + 3 * number)]


def everything(encoding):
    """All that an encoding says, with the bits of its vector."""
    return encoding.vector.tobytes(), encoding.state, encoding.event_report, encoding.known_user


def test_many_people_get_the_bits_of_one(engine):
    """Those who are worked on together get what each would get alone."""
    people = [events_of(number) for number in range(24)]

    def ask(events):
        return lambda: (everything(engine.encode(events=events)), engine.recommend(events=events))

    found = answers_of([ask(events) for events in people])

    assert found == [ask(events)() for events in people]


def test_who_makes_an_answer_can_ask(engine):
    """It is answered at once."""
    query = Query(events=events_of(2))
    asked = [lambda: engine.recommend_for(query, lambda _: engine.encode(events=events_of(3)))] * 2
    first, second = answers_of(asked)
    assert everything(first) == everything(second) == everything(engine.encode(events=events_of(3)))


def test_what_is_made_of_an_answer_can_be_nothing(engine):
    """A function that only looks at it gives none."""
    seen = []
    query = Query(events=events_of(2))
    assert engine.recommend_for(query, seen.append) is None
    assert answers_of([lambda: engine.recommend_for(query, seen.append)] * 2) == [None, None]
    assert [one.item_ids for one in seen] == [engine.recommend(events=events_of(2)).item_ids] * 3


def test_each_gets_its_own_error(engine):
    """What is wrong with one question is told to nobody else."""
    stale = bytearray(engine.encode(events=events_of(1)).state)
    stale[5] ^= 1  # of the fingerprint
    queries = [
        Query(events=events_of(2)),
        Query(state=bytes(stale)),
        Query(events=events_of(3), limit=-1),
        Query(events=events_of(4)),
    ]

    def ask(query):
        return lambda: len(engine.recommend_for(query, lambda answer: answer.item_ids))

    first, stale_one, bad, last = answers_of([ask(query) for query in queries])
    assert (first, last) == (10, 10)
    assert isinstance(stale_one, StaleStateError)
    assert isinstance(bad, InvalidFieldError)


class Doubling:
    """Doubles numbers: records each batch and its thread, fails on demand."""

    def __init__(self):
        self.batches = []
        self.threads = set()
        self.error = ValueError("a bad number")

    def work(self, tasks):
        """Answer the tasks of a batch."""
        self.batches.append([task.asked for task in tasks])
        self.threads.add(threading.get_ident())
        for task in tasks:
            if task.asked == BAD:
                raise self.error
            task.answer = 2 * task.asked

    @staticmethod
    def is_close(one, other):
        """Whether neither is more than twice the other."""
        return one <= 2 * other and other <= 2 * one


@pytest.fixture
def doubling():
    return Doubling()


@pytest.fixture
def batching(doubling):
    return Batching(doubling.work, doubling.is_close, 8)


def doubles_of(batching, asked):
    """What each gets of some who ask together."""
    return answers_of([lambda number=number: batching.ask(number) for number in asked])


def test_a_lone_call_is_worked_on_at_once(doubling, batching):
    """Whether it is run as many calls are, or asks without being run by anybody."""
    assert batching.ask(5) == 10
    assert doubles_of(batching, [6]) == [12]
    assert doubling.batches == [[5], [6]]
    assert doubling.threads == {threading.get_ident()}


def test_what_is_asked_together_is_worked_on_together_if_it_is_close(doubling, batching):
    """In the order in which it was asked, the first with those that are close to it."""
    answers = doubles_of(batching, [5, 10, 100, 12, 20, 6, 60])

    assert answers == [10, 20, 200, 24, 40, 12, 120]
    assert doubling.batches == [[5, 10, 6], [100, 60], [12, 20]]


def test_a_batch_has_a_greatest_size(doubling, batching):
    """More than fit make another batch."""
    assert doubles_of(batching, [5] * 11) == [10] * 11
    assert [len(batch) for batch in doubling.batches] == [8, 3]


def test_an_error_reaches_its_batch_alone(doubling, batching):
    """But who was answered before keeps the answer."""
    found = doubles_of(batching, [900, 5, BAD, 901, 7])

    assert found == [1_800, 10, doubling.error, doubling.error, 14]
    assert doubling.batches == [[900, BAD, 901], [5, 7]]


def test_what_nobody_answers_is_an_error():
    """It is not taken for an answer of nothing."""
    silent = Batching(lambda _tasks: None, lambda _one, _other: True, 8)
    with pytest.raises(RuntimeError, match="no answer"):
        silent.ask(1)


def test_a_call_can_ask_never_or_twice_or_of_others(doubling, batching):
    """Each goes on as far as it can, and what was asked meanwhile is worked on together."""
    other = Batching(doubling.work, doubling.is_close, 8)
    found = answers_of(
        [
            lambda: batching.ask(batching.ask(10)),
            lambda: 7,
            lambda: batching.ask(11),
            lambda: other.ask(12),
            lambda: batching.ask(batching.ask(13)),
        ]
    )
    assert found == [40, 7, 22, 24, 52]
    assert doubling.batches == [[10, 11, 13], [12], [20, 26]]


def test_threads_work_one_at_a_time(doubling):
    """Whoever asks outside of a run waits for the thread that works."""
    entered, gate = threading.Event(), threading.Event()

    def work(tasks):
        entered.set()
        assert gate.wait(10)
        doubling.work(tasks)

    batching = Batching(work, doubling.is_close, 8)
    first = threading.Thread(target=batching.ask, args=(5,))
    first.start()
    assert entered.wait(10)
    entered.clear()
    second = threading.Thread(target=doubles_of, args=(batching, [6, 7]))
    second.start()
    assert not entered.wait(0.1)
    gate.set()
    for thread in (first, second):
        thread.join(10)
        assert not thread.is_alive()
    assert doubling.batches == [[5], [6, 7]]


def test_an_interrupt_leaves_no_one_waiting(doubling, batching):
    """After an interrupt during the work, the next is worked on."""
    doubling.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        batching.ask(BAD)
    assert batching.ask(5) == 10


def test_context_variables_are_those_of_each_call(batching):
    """Also after others were run meanwhile."""
    name = ContextVar("name", default="nobody")
    seen = []

    def call(own):
        def run():
            name.set(own)
            batching.ask(5)
            seen.append(name.get())

        return lambda: copy_context().run(run)

    run_together([call(own) for own in "abc"])
    assert seen == ["a", "b", "c"]
    assert name.get() == "nobody"


def test_an_error_leaves_nothing_for_a_collection(engine):
    """A failed call is freed at once, with all that it held."""

    def fail():
        with pytest.raises(InvalidFieldError):
            engine.recommend_for(Query(events=[Event("i1")], limit=-1), list)

    gc.collect()
    gc.disable()
    try:
        for _ in range(25):
            fail()
        run_together([fail] * 25)
        assert gc.collect() < 50
    finally:
        gc.enable()


def test_calls_after_others_are_run_as_the_first_were(batching, doubling):
    """More or fewer at a time, and after some that failed."""
    runner, found = Runner(), []

    def call():
        found.append(batching.ask(5))

    def fail():
        batching.ask(5)
        raise ZeroDivisionError

    for count in (3, 5, 2):
        runner.run([call] * count)
    with pytest.raises(ZeroDivisionError):
        runner.run([call, fail, call])
    runner.run([call] * 4)
    runner.end()
    assert [len(batch) for batch in doubling.batches] == [3, 5, 2, 3, 4]
    assert found == [10] * (3 + 5 + 2 + 1 + 4)
    runner.run([call] * 2)
    assert len(found) == 17


def test_a_call_is_forgotten_when_it_has_ended(batching):
    """Though what ran it waits for the next."""

    class Call:
        def __call__(self):
            batching.ask(5)

    runner, calls = Runner(), [Call(), Call()]
    known = [weakref.ref(call) for call in calls]
    runner.run(calls)
    del calls
    assert [call() for call in known] == [None, None]


class Made:
    """What is made of an answer."""

    def __init__(self, answer):
        self.answer = answer


@pytest.mark.parametrize("failing", [3, 7])
def test_an_error_in_the_middle_keeps_nothing_of_the_others(engine, failing):
    """The answers of all are freed at once, also if the last of them fails."""
    answers = []

    def ask(place):
        def then(answer):
            if place == failing:
                raise ZeroDivisionError
            made = Made(answer)
            answers.append(weakref.ref(made))
            return made

        def run():
            with contextlib.suppress(ZeroDivisionError):
                engine.recommend_for(Query(events=events_of(1)), then)

        return run

    gc.collect()
    gc.disable()
    try:
        run_together([ask(place) for place in range(8)])
        assert len(answers) == 7
        assert [answer() for answer in answers] == [None] * 7
    finally:
        gc.enable()
