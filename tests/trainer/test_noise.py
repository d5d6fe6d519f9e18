"""Which events are taken for noise."""

from hypothesis import given
from hypothesis import strategies as st

from kinrec.trainer.noise import drop_fast_users, drop_low_values, keep_between, keep_types


def test_types_that_are_not_known_go(frame_of, places):
    """Events of other types go; those without a type are not of another."""
    frame = frame_of(("u", "a", "view"), ("u", "a", "wave"), ("u", "a"), ("u", "a", "View"))
    assert places(keep_types(frame, ("view", "buy"))) == [0, 2]


def test_times_outside_of_the_range_go(frame_of, places):
    """Both bounds belong to the range, and each can be left out."""
    frame = frame_of(*(("u", "a", None, time) for time in (-1.0, 0.0, 5.0, 10.0, 10.5)))
    assert places(keep_between(frame, 0.0, 10.0)) == [1, 2, 3]
    assert places(keep_between(frame, 0.0, None)) == [1, 2, 3, 4]
    assert places(keep_between(frame, None, 10.0)) == [0, 1, 2, 3]


def test_low_values_go(frame_of, places):
    """What has a lower value goes, what has none stays; with types, only theirs is looked at."""
    frame = frame_of(
        ("u", "a", "view", 0.0, 2.9),
        ("u", "a", "view", 1.0, 3.0),
        ("u", "a", "view", 2.0, None),
        ("u", "a", "buy", 3.0, 1.0),
        ("u", "a", None, 4.0, 1.0),
    )
    assert places(drop_low_values(frame, 3.0, ())) == [1, 2]
    assert places(drop_low_values(frame, 3.0, ("view", "like"))) == [1, 2, 3, 4]


@given(
    st.lists(
        st.tuples(st.sampled_from("uv"), st.integers(0, 30).map(lambda n: n * 600.0)), max_size=40
    ),
    st.integers(1, 8),
)
def test_fast_users_are_those_of_a_plain_loop(frame_of, places, visits, most):
    """On any events, whoever has more in an hour that begins with one of them is fast."""
    fast = {
        user
        for user, start in visits
        if sum(u == user and start <= time < start + 3_600.0 for u, time in visits) > most
    }
    frame = frame_of(*((user, "a", None, time) for user, time in visits))
    expected = [place for place, (user, _) in enumerate(visits) if user not in fast]
    assert places(drop_fast_users(frame, most)) == expected
