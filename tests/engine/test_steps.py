"""Work in steps: alone to the end, and of several step by step."""

import pytest

from kinrec.engine.stages import Listener, listener
from kinrec.engine.steps import finish, finish_together


def counting(name, steps, noted, failing=-1):
    """Note name, step and who hears of it; fail in a step, if one is given."""
    for step in range(steps):
        if step == failing:
            raise ZeroDivisionError(name)
        noted.append((name, step, listener.get()))
        yield
    return f"{name} is done"


def test_alone_all_steps_are_taken():
    """And what they make is given; an error is raised."""
    noted = []
    assert finish(counting("a", 3, noted)) == "a is done"
    assert [step for _, step, _ in noted] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        finish(counting("a", 3, noted, failing=1))


def test_each_step_is_taken_for_all_before_the_next():
    """Each is heard of by its own listener, and the error of one is nothing to the others."""
    noted, heard_by = [], {name: Listener() for name in "abcd"}
    each = [
        (heard_by["a"], counting("a", 2, noted)),
        (heard_by["b"], counting("b", 3, noted, failing=1)),
        (heard_by["c"], counting("c", 0, noted)),
        (heard_by["d"], counting("d", 3, noted)),
    ]
    first, second, third, fourth = finish_together(each)
    assert (first, third, fourth) == ("a is done", "c is done", "d is done")
    assert isinstance(second, ZeroDivisionError)
    order = [("a", 0), ("b", 0), ("d", 0), ("a", 1), ("d", 1), ("d", 2)]
    assert noted == [(name, step, heard_by[name]) for name, step in order]
    assert finish_together([]) == []
