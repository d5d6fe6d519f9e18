"""The line in which calls wait: who is waited for, when work is due, and what a call takes."""

import time

from kinrec.server import line as lines
from kinrec.server.line import Line


def test_others_are_waited_for_as_long_as_they_may_come():
    """Until as many have come as came together lately, and some times at most."""
    line = Line(8)
    line.put(lambda: None)
    assert not line.expects_more()  # nobody came lately
    for _ in range(12):
        line.put(lambda: None)
    for left in (5, 0):  # eight at most are run together
        line.do_some()
        assert line.waiting == left
    line.put(lambda: None)
    assert line.expects_more()
    for _ in range(7):
        line.put(lambda: None)
    assert not line.expects_more()
    line.do_some()
    line.put(lambda: None)
    assert sum(line.expects_more() for _ in range(100)) == lines._MOST_YIELDS
    line.do_some()
    assert line.expects_more()
    line.end()


def test_neither_reading_nor_work_waits_for_ever():
    """Calls that wait are due after half as long as the last ones took; where none wait nothing is."""
    line = Line(8)
    line.rest()
    assert not line.is_due()
    line.put(lambda: time.sleep(0.2))
    assert not line.is_due()
    time.sleep(0.02)
    assert line.is_due()
    line.do_some()
    line.put(lambda: None)
    time.sleep(0.04)
    assert not line.is_due()
    time.sleep(0.08)
    assert line.is_due()
    line.end()
    assert not line.waiting


def test_what_is_read_while_nobody_waits_is_not_counted_to_the_calls():
    """What a call takes is from when it waits, or from the end of those before it."""
    line = Line(1)
    for _ in range(50):
        line.put(lambda: time.sleep(0.001))
        line.do_some()
    before = line.step
    for _ in range(5):
        time.sleep(0.05)
        line.put(lambda: time.sleep(0.001))
        line.do_some()
    assert line.step < 2 * before
    line.put(lambda: None)
    line.put(lambda: None)
    line.do_some()
    before = line.step
    time.sleep(0.05)
    line.do_some()
    assert line.step > before
    line.end()


def test_when_a_call_would_be_answered_is_known_where_others_wait():
    """With as many as are worked on, behind those that wait; of one that comes alone nothing is said."""
    line = Line(8)
    for _ in range(8):
        line.put(lambda: time.sleep(0.002))
    line.do_some()
    assert (line.waiting, line.expected_answer(0)) == (0, 0.0)
    for _ in range(3):
        line.put(lambda: None)
    assert line.expected_answer(line.waiting) == (3 + 8 + 1) * line.step
    line.end()


def test_a_crowd_is_forgotten_when_nobody_comes(monkeypatch):
    """Nobody is waited for then."""
    line = Line(8)
    for _ in range(8):
        line.put(lambda: None)
    line.do_some()
    line.rest()
    line.put(lambda: None)
    assert line.expects_more()
    line.do_some()
    monkeypatch.setattr(lines, "_LATELY", 0.0)
    line.rest()
    line.put(lambda: None)
    assert not line.expects_more()
    line.end()
