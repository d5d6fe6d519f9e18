"""Which repeats go, beside plain loops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinrec.trainer.duplicates import drop_repeats_in_window, keep_first_of_types

event_lists = st.lists(
    st.tuples(
        st.sampled_from("uv"),
        st.sampled_from("ab"),
        st.sampled_from(["view", "buy", None]),
        st.integers(0, 40).map(float),
    ),
    min_size=1,
    max_size=40,
)


def in_order(events):
    """Give the places of events by time, those of the same time by place."""
    return sorted(range(len(events)), key=lambda place: (events[place][3], place))


@given(event_lists, st.sampled_from([0.5, 1.0, 5.0, 17.0]))
def test_repeats_in_the_window_are_those_of_a_plain_loop(frame_of, places, events, seconds):
    """On any events, what is too soon after the last kept of its user, item and type goes."""
    kept, last = [], {}
    for place in in_order(events):
        *key, time = events[place]
        if time - last.get(tuple(key), -100.0) > seconds:
            kept.append(place)
            last[tuple(key)] = time
    assert places(drop_repeats_in_window(frame_of(*events), seconds)) == sorted(kept)


def test_a_long_burst_is_thinned_not_emptied(frame_of, places):
    """Of a burst that outlasts the window, one event in each window stays."""
    frame = frame_of(*(("u", "a", "view", float(second)) for second in range(200)))
    assert places(drop_repeats_in_window(frame, 9.0)) == list(range(0, 200, 10))


def test_the_window_holds_its_end(frame_of, places):
    """An event exactly as many seconds later is a repeat, later it is none."""
    frame = frame_of(("u", "a", None, 0.0), ("u", "a", None, 9.0), ("u", "a", None, 9.5))
    assert places(drop_repeats_in_window(frame, 9.0)) == [0, 2]


@pytest.mark.parametrize("times", [(0.0, 1.0, 2.0), (2.0, 1.0, 0.0), (1.0, 1.0, 1.0)])
def test_the_columns_stay(frame_of, times):
    """No column of the work is left behind."""
    frame = frame_of(*(("u", "a", None, time) for time in times))
    assert drop_repeats_in_window(frame, 1.0).collect_schema() == frame.collect_schema()


@given(event_lists)
def test_the_first_of_once_types_is_that_of_a_plain_loop(frame_of, places, events):
    """On any events, a named type comes once for each user and item, others as often as they do."""
    kept, seen = [], set()
    for place in in_order(events):
        key = events[place][:3]
        if key[2] != "buy" or key not in seen:
            kept.append(place)
        seen.add(key)
    assert places(keep_first_of_types(frame_of(*events), ("buy", "like"))) == sorted(kept)
