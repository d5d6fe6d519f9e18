"""Questions that wait at the same time: worked on together, and answered as each would be alone."""

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kinrec.engine import Event, InvalidFieldError, Query, StaleStateError
from kinrec.engine.batching import Batching
from kinrec.engine.bell import bell_of_thread, make_bell

BAD = 1_000


def run_all(tasks):
    """Run every task in a thread of its own, all started together."""
    barrier = threading.Barrier(len(tasks))
    results = [None] * len(tasks)

    def work(place, task):
        barrier.wait(10)
        results[place] = task()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def events_of(number):
    """The events of one of many people."""
    return [Event(f"i{(7 * number + 3 * place) % 100}", "view") for place in range(1 + 3 * number)]


def everything(encoding):
    """All that an encoding says, with the bits of its vector."""
    return encoding.vector.tobytes(), encoding.state, encoding.event_report, encoding.known_user


def test_many_threads_get_the_bits_of_one(engine):
    """Callers that are worked on together get what each would get alone."""
    people = [events_of(number) for number in range(24)]

    def rounds(events):
        def ask():
            encoded = [everything(engine.encode(events=events)) for _ in range(5)]
            return encoded, [engine.recommend(events=events) for _ in range(5)]

        return ask

    found = run_all([rounds(events) for events in people])

    for events, (encoded, recommended) in zip(people, found, strict=True):
        assert encoded == [everything(engine.encode(events=events))] * 5
        assert recommended == [engine.recommend(events=events)] * 5


def test_each_gets_its_own_error(engine):
    """What is wrong with one question is told to nobody else."""
    stale = bytearray(engine.encode(events=events_of(1)).state)
    stale[5] ^= 1  # of the fingerprint

    def ask(query):
        def rounds():
            found = []
            for _ in range(20):
                try:
                    found.append(len(engine.recommend_for(query, lambda answer: answer.item_ids)))
                except (InvalidFieldError, StaleStateError) as error:
                    found.append(type(error))
            return found

        return rounds

    queries = [
        Query(events=events_of(2)),
        Query(state=bytes(stale)),
        Query(events=events_of(3), limit=-1),
        Query(events=events_of(4)),
    ]
    found = run_all([ask(query) for query in queries])
    assert found == [[10] * 20, [StaleStateError] * 20, [InvalidFieldError] * 20, [10] * 20]


class Gate:
    """Doubles numbers behind a gate: records each batch, fails on demand."""

    def __init__(self):
        self.open = threading.Event()
        self.started = threading.Event()
        self.batches = []
        self.threads = []
        self.error = ValueError("a bad number")

    def work(self, tasks):
        """Answer the tasks of a batch."""
        self.batches.append([task.asked for task in tasks])
        self.threads.append(threading.get_ident())
        self.started.set()
        assert self.open.wait(20)
        for task in tasks:
            if task.asked == BAD:
                raise self.error
            task.answer = 2 * task.asked

    @staticmethod
    def is_close(one, other):
        """Whether neither is more than twice the other."""
        return one <= 2 * other and other <= 2 * one


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def batching(gate):
    return Batching(gate.work, gate.is_close, 8)


def open_files():
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for(is_so):
    """Wait until it is, or fail."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def call_while_busy(gate, batching, asked):
    """Ask the first; when it is worked on, the others in order; then open the gate.

    Returns:
        Each caller's answer, or the error it got.
    """
    results = [None] * len(asked)

    def work(place):
        try:
            results[place] = batching.ask(asked[place])
        except ValueError as error:
            results[place] = error

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(asked))]
    threads[0].start()
    assert gate.started.wait(10)
    for waiting, thread in enumerate(threads[1:], start=1):
        thread.start()
        wait_for(lambda waiting=waiting: len(batching._waiting) >= waiting)
    gate.open.set()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_a_lone_call_runs_at_once_in_its_own_thread(gate, batching):
    """Nobody is waited for and no other thread takes part when there is one caller."""
    gate.open.set()

    assert [batching.ask(5) for _ in range(3)] == [10] * 3

    assert gate.batches == [[5]] * 3
    assert set(gate.threads) == {threading.get_ident()}


def test_what_waits_runs_together(gate, batching):
    """Those who come during a batch share the next one, if they are close."""
    answers = call_while_busy(gate, batching, [5, 10, 100, 12, 20, 6, 21])

    assert answers == [10, 20, 200, 24, 40, 12, 42]
    assert gate.batches == [[5], [10, 12, 20, 6], [100], [21]]


def test_a_batch_has_a_greatest_size(gate, batching):
    """More callers than fit wait for the batch after the next."""
    call_while_busy(gate, batching, [5] * 11)

    assert [len(batch) for batch in gate.batches] == [1, 8, 2]


def test_a_lone_caller_after_many_waits_for_nobody(gate, batching):
    """Those who came together lately are waited for only as long as others are ready to run."""
    call_while_busy(gate, batching, [5] * 9)

    assert [batching.ask(5) for _ in range(200)] == [10] * 200

    assert gate.batches[-1] == [5]
    assert batching._usual == 1


def test_an_error_reaches_the_callers_of_its_batch_only(gate, batching):
    """Who was answered before it keeps the answer, and callers before and after get theirs."""
    found = call_while_busy(gate, batching, [5, 900, BAD, 901, 7])

    assert found == [10, 1_800, gate.error, gate.error, 14]
    assert batching.ask(8) == 16


def test_an_interrupted_call_leaves_no_one_waiting(gate, batching):
    """After an interrupt during the work, the next call is worked on."""
    gate.open.set()
    gate.error = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        batching.ask(BAD)

    again = threading.Thread(target=batching.ask, args=(5,), daemon=True)
    again.start()
    again.join(10)
    assert not again.is_alive()


class Interrupted:
    """A bell that is heard, and then comes an interrupt."""

    def __init__(self):
        self.bell = bell_of_thread()

    def ring(self):
        """Ring the thread's own."""
        self.bell.ring()

    def wait(self):
        """Hear it."""
        self.bell.wait()
        raise KeyboardInterrupt


@pytest.mark.parametrize("others", [[], [7], [100], [7, 100, 8]])
def test_who_is_interrupted_when_its_turn_comes_hands_it_on(gate, batching, monkeypatch, others):
    """Those who wait behind it get their answers, in its batch or the next."""
    answers = []

    def ask(number):
        answers.append(batching.ask(number))

    def ask_and_be_interrupted():
        monkeypatch.setattr("kinrec.engine.batching.bell_of_thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            batching.ask(6)
        answers.append("interrupted")

    first, *following = [
        threading.Thread(target=ask, args=(5,)),
        threading.Thread(target=ask_and_be_interrupted),
        *(threading.Thread(target=ask, args=(number,)) for number in others),
    ]
    first.start()
    assert gate.started.wait(10)
    for waiting, thread in enumerate(following, start=1):
        thread.start()
        wait_for(lambda waiting=waiting: len(batching._waiting) == waiting)
        monkeypatch.undo()  # it is the first of them that is interrupted
    gate.open.set()
    for thread in (first, *following):
        thread.join(20)

    assert not any(thread.is_alive() for thread in (first, *following))
    assert sorted(map(str, answers)) == sorted(
        ["10", "interrupted", *(str(2 * number) for number in others)]
    )
    assert batching.ask(9) == 18


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals for threads")
def test_who_is_interrupted_in_the_queue_is_forgotten(gate, batching):
    """It is worked on by nobody, and its thread asks and waits again as before."""

    def interrupt(*_):
        raise KeyboardInterrupt

    main = threading.get_ident()
    first = threading.Thread(target=batching.ask, args=(5,))
    first.start()
    assert gate.started.wait(10)
    before = signal.signal(signal.SIGUSR1, interrupt)
    killer = threading.Thread(
        target=lambda: (
            wait_for(lambda: batching._waiting),
            time.sleep(0.05),
            signal.pthread_kill(main, signal.SIGUSR1),
        )
    )
    try:
        killer.start()
        with pytest.raises(KeyboardInterrupt):
            batching.ask(6)
    finally:
        killer.join(10)
        signal.signal(signal.SIGUSR1, before)
    opener = threading.Thread(target=lambda: (wait_for(lambda: batching._waiting), gate.open.set()))
    opener.start()

    assert batching.ask(7) == 14

    opener.join(10)
    first.join(10)
    assert gate.batches == [[5], [7]]


def test_an_interrupt_while_others_are_on_their_way_leaves_no_one_waiting(
    gate, batching, monkeypatch
):
    """Who would have worked lets the next do so."""

    def interrupt():
        raise KeyboardInterrupt

    gate.open.set()
    batching._usual = 5
    with monkeypatch.context() as patched:
        patched.setattr("kinrec.engine.batching._yield_core", interrupt)
        with pytest.raises(KeyboardInterrupt):
            batching.ask(6)

    again = threading.Thread(target=batching.ask, args=(5,), daemon=True)
    again.start()
    again.join(10)
    assert not again.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_forked_process_has_bells_of_its_own():
    """It would hear what is rung for its parent, and the parent what is rung for it."""
    script = """
import os
from kinrec.engine.bell import bell_of_thread
bell = bell_of_thread()
child = os.fork()
if not child:
    os._exit(bell_of_thread() is bell)
_, status = os.waitpid(child, 0)
assert bell_of_thread() is bell
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("has_eventfd", [True, False])
def test_a_bell_wakes_once_for_each_ring(monkeypatch, has_eventfd):
    """Whether it was rung before or after the wait began, and where the system has no events for it."""
    if not has_eventfd:
        monkeypatch.delattr(os, "eventfd", raising=False)
    bell, heard = make_bell(), []

    def listen():
        for _ in range(3):
            bell.wait()
            heard.append(1)

    bell.ring()
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    for count in (1, 2):
        wait_for(lambda count=count: len(heard) == count)
        time.sleep(0.02)
        assert len(heard) == count
        bell.ring()
    thread.join(10)
    assert len(heard) == 3


def test_with_all_files_open_that_it_may_a_process_still_waits_and_wakes(monkeypatch):
    """A bell without a file takes the place of one that has one."""

    def refuse(*_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "eventfd", refuse, raising=False)
    bell = make_bell()
    bell.ring()
    bell.wait()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not told here")
def test_the_bells_of_threads_that_ended_hold_no_files():
    """Each thread has one of its own while it lives."""
    seen = []

    def ask():
        seen.append(bell_of_thread())

    before = open_files()
    for _ in range(20):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)
    assert len(set(map(id, seen))) == 20
    del seen[:]
    gc.collect()
    assert open_files() <= before


def test_an_error_leaves_nothing_for_a_collection(engine):
    """A failed call is freed at once, with all that it held."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            with pytest.raises(InvalidFieldError):
                engine.recommend_for(Query(events=[Event("i1")], limit=-1), list)
        assert gc.collect() < 50
    finally:
        gc.enable()
