"""The histories of all users, end to end."""

import numpy as np
import pytest

from kinrec.engine.events import gap_codes
from kinrec.engine.histories import HISTORY_FILES, Histories


@pytest.fixture
def three():
    """Users with three, no and two events."""
    return Histories(
        np.array([0, 3, 3, 5]),
        np.array([5, 6, 7, 8, 9], np.int32),
        np.array([1, 2, 1, 2, 1], np.uint8),
        np.array([10.0, 11.0, 14.0, 0.0, np.nan]),
    )


def items(histories):
    return [histories.user(number).items.tolist() for number in range(len(histories))]


def test_one_user(three):
    """A user's events are those between two offsets, the newest when there is a limit."""
    assert items(three) == [[5, 6, 7], [], [8, 9]]
    assert three.user(0, 2).items.tolist() == [6, 7]
    assert three.user(0, 2).event_types.tolist() == [2, 1]
    assert three.user(0, 9).times.tolist() == [10.0, 11.0, 14.0]


def test_without_last(three):
    """Each user loses as many of the newest events as asked."""
    shorter = three.without_last(np.array([2, 0, 1]))

    assert items(shorter) == [[5], [], [8]]
    assert shorter.offsets.tolist() == [0, 1, 1, 2]
    assert shorter.times.tolist() == [10.0, 0.0]


def test_last(three):
    """Each user keeps the newest events."""
    assert items(three.last(2)) == [[6, 7], [], [8, 9]]
    assert items(three.last(1)) == [[7], [], [9]]
    assert items(three.last(9)) == items(three)


def test_gaps_do_not_reach_over_users(three):
    """The first event of each user has an unknown gap, whatever stands before it."""
    assert three.gaps().tolist() == [0, 2, 3, 0, 0]
    alone = [gap_codes(three.user(number).times) for number in range(3)]
    assert three.gaps().tolist() == np.concatenate(alone).tolist()


def test_save_and_map(three, tmp_path):
    """What is saved is what is read."""
    three.save(tmp_path)

    read = Histories(*(np.load(tmp_path / name, mmap_mode="r") for name in HISTORY_FILES))
    assert items(read) == items(three)
    np.testing.assert_array_equal(read.event_types, three.event_types)
    np.testing.assert_array_equal(read.times, three.times)


def test_sessions(three):
    """A longer pause starts a session; a user's end is one, an unknown time is none."""
    assert items(three.sessions(2.0)) == [[5, 6], [7], [8, 9]]
    assert items(three.sessions(3.0)) == [[5, 6, 7], [8, 9]]
    assert three.sessions(0.0) is three
    assert three.sessions(2.0).gaps().tolist() == [0, 2, 0, 0, 0]


def test_last_sessions(three):
    """Each user keeps the latest session, as one history does alone."""
    for gap in (0.0, 0.5, 2.0, 3.0):
        kept = three.last_sessions(gap)
        alone = [three.user(number).last_session(gap) for number in range(3)]
        assert items(kept) == [history.items.tolist() for history in alone]
        assert kept.times.tolist()[:-1] == [t for one in alone for t in one.times.tolist()][:-1]
    assert items(three.last_sessions(2.0)) == [[7], [], [8, 9]]
    assert items(three.last_sessions(0.5)) == [[7], [], [8, 9]]
