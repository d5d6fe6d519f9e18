"""Calls that wait, and the thread that works on them."""

import subprocess
import sys
import threading
import time

import pytest

from kinrec.engine.together import Batching
from kinrec.server.call_pool import ThreadedCallPool
from kinrec.server.inner_grpc.held import Held
from kinrec.server.line import Line
from kinrec.server.observability import calls

WAIT = 10


def refuse(*_called):
    """Never asked for: nothing here comes from gRPC."""
    raise AssertionError


def pool_of(most):
    """A pool with a thread that works on so many together."""
    return ThreadedCallPool(Line(most), Held(1, refuse))


@pytest.fixture
def make_pool():
    """Make pools; their threads end with the test."""
    pools = []

    def make(most):
        pools.append(pool_of(most))
        return pools[-1]

    yield make
    for pool in pools:
        pool.shutdown()


@pytest.fixture
def hold_up():
    """Keep a pool's thread busy until an event is set that is given back."""

    def begin(pool):
        begun, gate = threading.Event(), threading.Event()

        def work():
            begun.set()
            assert gate.wait(WAIT)

        pool.submit(work)
        assert begun.wait(WAIT)
        return gate

    return begin


def expected_wait(pool):
    """How long a call that comes now would wait."""
    return pool.work.expected_wait(pool.work.waiting)


def run_all(pool, calls):
    """Submit calls, and wait until all have ended."""
    ended = threading.Semaphore(0)

    def call_and_end(call):
        call()
        ended.release()

    for call in calls:
        pool.submit(call_and_end, call)
    return lambda: [ended.acquire(timeout=WAIT) for _ in calls] == [True] * len(calls)


@pytest.mark.parametrize(("most", "sizes"), [(32, [20]), (8, [8, 8, 4]), (1, [1] * 20)])
def test_calls_that_wait_at_the_same_time_are_run_together(make_pool, hold_up, most, sizes):
    """As many as may be; what they ask is worked on together."""
    pool, batches = make_pool(most), []

    def work(tasks):
        batches.append(len(tasks))
        for task in tasks:
            task.answer = True

    batching = Batching(work, lambda _one, _other: True, 32)
    gate = hold_up(pool)
    have_ended = run_all(pool, [lambda: batching.ask(1)] * 20)
    gate.set()
    assert have_ended()
    assert batches == sizes


def test_it_knows_what_waits_and_for_how_long(make_pool, hold_up):
    """The wait is how many wait, and are in work, times what one takes; without a queue it is nothing."""
    pool = make_pool(2)
    assert (pool.work.waiting, expected_wait(pool)) == (0, 0.0)
    gate = hold_up(pool)
    assert expected_wait(pool) == 0.0
    have_ended = run_all(pool, [lambda: time.sleep(0.01)] * 5)
    assert pool.work.waiting == 5
    gate.set()
    assert have_ended()
    assert run_all(pool, [lambda: time.sleep(0.01)] * 100)()
    assert pool.work.waiting == 0
    assert 0.005 < pool.work.step < 0.03
    have_ended = run_all(pool, [lambda: time.sleep(0.01)] * 40)
    assert 0.2 < expected_wait(pool) < 1.3
    assert have_ended()


def test_a_pause_of_the_process_is_none_of_its_speed(make_pool):
    """One call of a thousand times the usual length does not have those after it refused."""
    pool = make_pool(8)
    for _ in range(100):
        assert run_all(pool, [lambda: time.sleep(0.001)])()
    before = pool.work.step
    assert run_all(pool, [lambda: time.sleep(1.0)])()
    assert pool.work.step < 2 * before


@pytest.mark.parametrize(("last", "code", "said"), [(4.0, 7, ""), (0.1, 1, "do not end")])
def test_a_process_ends_well_while_calls_are_worked_on(last, code, said):
    """Its exit code is its own, whatever is in work, unless that does not end in time."""
    script = f"""
import threading, time
from kinrec.engine.together import Batching
from kinrec.server import line
from kinrec.server.call_pool import ThreadedCallPool
from kinrec.server.inner_grpc.held import Held

line._LAST_SECONDS = {last}

def work(tasks):
    for task in tasks:
        task.answer = True

batching, gate = Batching(work, lambda one, other: True, 32), threading.Event()
pool = ThreadedCallPool(line.Line(32), Held(1, None))
pool.submit(gate.wait, 5)

def call():
    batching.ask(1)
    end = time.monotonic() + .6
    while time.monotonic() < end:
        pass

for _ in range(4):
    pool.submit(call)
time.sleep(.05)
gate.set()
time.sleep(.1)
raise SystemExit(7)
"""
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, timeout=60, check=False, capture_output=True, text=True)
    assert ended.returncode == code
    assert said in ended.stderr


def test_at_the_end_of_a_process_nothing_more_is_worked_on(make_pool):
    """However many calls wait."""
    pool, done = make_pool(1), []
    for _ in range(1000):
        pool.submit(lambda: done.append(time.sleep(0.002)))
    began = time.monotonic()
    pool.work.hold()
    assert pool.work.await_work(5)
    assert time.monotonic() - began < 1
    count = len(done)
    time.sleep(0.05)
    assert len(done) == count < 1000
    pool.work._is_held = False
    pool.work._may_work.release()


def test_a_failure_ends_neither_the_thread_nor_the_calls_beside_it(make_pool, hold_up, caplog):
    """What fails is logged."""
    pool = make_pool(8)

    def fail():
        raise SystemExit("not of a method")

    gate = hold_up(pool)
    pool.submit(fail)
    have_ended = run_all(pool, [lambda: None] * 3)
    pool.submit(fail)
    gate.set()
    assert have_ended()
    assert run_all(pool, [lambda: None])()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["a call failed outside its method"] * 2


def test_a_call_can_ask_when_it_came(make_pool, hold_up):
    """Of the calls that are run together each has times of its own."""
    pool, seen = make_pool(8), []
    gate = hold_up(pool)
    before = time.monotonic()
    first = run_all(pool, [lambda: seen.append(calls._of_thread.times)])
    time.sleep(0.05)
    second = run_all(pool, [lambda: seen.append(calls._of_thread.times)])
    gate.set()
    assert first()
    assert second()
    (one, one_received, _), (two, two_received, _) = seen
    assert before <= one <= one_received <= one + 0.04
    assert one + 0.05 <= two <= two_received <= time.monotonic()


def test_its_thread_ends_with_it(hold_up):
    """After the calls that were submitted, whether it was shut down or forgotten."""
    for forget in (False, True):
        pool, threads = pool_of(3), []
        gate = hold_up(pool)
        have_ended = run_all(pool, [lambda: threads.append(threading.current_thread())] * 5)  # noqa: B023
        if forget:
            del pool
        else:
            pool.shutdown()
        gate.set()
        assert have_ended()
        (thread,) = set(threads)
        thread.join(WAIT)
        assert not thread.is_alive()
