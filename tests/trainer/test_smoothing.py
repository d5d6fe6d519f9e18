"""Gaussian process regression over a user's time."""

import logging

import numpy as np
import pytest

from kinrec.trainer import smoothing
from kinrec.trainer.smoothing import smooth


def values_of(frame):
    """Give the values in the order of the input."""
    return smooth(frame, "value", "timestamp").sort("input_order").collect()["value"].to_list()


def test_a_gap_in_a_smooth_course_is_filled_close_to_it(frame_of):
    """What is left out of a sine comes back to within a tenth of its height, noise and all."""
    times = np.arange(0.0, 60.0)
    course = np.sin(times / 6.0)
    left_out = {11, 12, 27, 41}
    frame = frame_of(
        *(
            ("u", "a", None, time, None if place in left_out else float(course[place]))
            for place, time in enumerate(times.tolist())
        )
    )
    found = values_of(frame)
    for place, value in enumerate(found):
        if place in left_out:
            assert value == pytest.approx(course[place], abs=0.1)
        else:
            assert value == course[place]


def test_far_from_what_is_known_it_is_the_users_mean(frame_of):
    """A process that knows nothing near says what is usual for the user."""
    known = [("u", "a", None, float(n), value) for n, value in enumerate((2.0, 4.0, 2.0, 4.0))]
    frame = frame_of(*known, ("u", "a", None, 1_000.0, None))
    assert values_of(frame)[-1] == pytest.approx(3.0)


def test_users_are_apart(frame_of):
    """One user's values say nothing of another's; a user without any stays without."""
    frame = frame_of(
        ("u", "a", None, 0.0, 5.0),
        ("v", "a", None, 1.0, 1.0),
        ("u", "a", None, 1.0, None),
        ("w", "a", None, 1.0, None),
    )
    assert values_of(frame) == [5.0, 1.0, pytest.approx(5.0), None]


def test_users_with_too_many_events_are_interpolated(frame_of, monkeypatch, caplog):
    """Beyond the limit a straight line is drawn, and the log says for how many users."""
    monkeypatch.setattr(smoothing, "MOST_EVENTS", 4)
    frame = frame_of(
        *(("u", "a", None, float(n), value) for n, value in enumerate((0, None, None, 6, 6)))
    )
    with caplog.at_level(logging.WARNING):
        assert values_of(frame) == [0.0, 2.0, 4.0, 6.0, 6.0]
    assert "of 1 users with more than 4 events" in caplog.text
