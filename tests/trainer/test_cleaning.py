"""What cleaning removes, and that it counts it."""

import narwhals as nw
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinrec.trainer.cleaning import CleaningStep, clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.errors import DataError

OFF = {
    "drop_exact_duplicates": False,
    "drop_immediate_repeats": False,
}
SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "event_type": pl.String,
    "timestamp": pl.Float64,
    "value": pl.Float64,
    "input_order": pl.Int64,
}


def frame_of(*events):
    """A frame of (user, item[, type[, time[, value]]]); the time is the place if not given."""
    rows = []
    for place, event in enumerate(events):
        defaults = (None, None, None, float(place), None)
        rows.append((*event, *defaults[len(event) :], place))
    return nw.from_native(pl.LazyFrame(rows, schema=SCHEMA, orient="row"))


def clean(frame, **config):
    cleaned = clean_events(frame, CleaningConfig(**config))
    return cleaned.frame.collect().rows(), cleaned.steps


def kept(frame, **config):
    return [row[5] for row in clean(frame, **config)[0]]


def test_missing_ids():
    """Events whose user or item is null, empty or white space are removed."""
    frame = frame_of(("u", "i"), (None, "i"), ("u", None), ("", "i"), ("u", " \t"), (" u", "i "))
    rows, steps = clean(frame, **OFF)
    assert [row[:2] for row in rows] == [(" u", "i "), ("u", "i")]
    assert steps[0] == CleaningStep("missing_ids", removed=4, left=2)


def test_ids_with_nul():
    """An id that holds a NUL is removed: the id map would take it for what stands before."""
    frame = frame_of(("u", "i"), ("u\0v", "i"), ("u", "i\0"))
    assert kept(frame, **OFF) == [0]


def test_missing_timestamps():
    """Events without a time are removed."""
    frame = frame_of(("u", "i", None, 5.0), ("u", "i", None, None))
    assert kept(frame, **OFF) == [0]


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_long_ids(character):
    """Ids of 512 UTF-8 bytes are kept, of more are not."""
    size = len(character.encode())
    fits = character * (512 // size) + "x" * (512 % size)
    frame = frame_of((fits, "i"), (fits + "x", "i"), ("u", fits), ("u", fits + "x"))
    assert sorted(kept(frame, **OFF)) == [0, 2]


def test_exact_duplicates():
    """Of events equal in every column, nulls included, the first is kept."""
    event = ("u", "i", "view", 5.0, 1.0)
    others = [("u", "i", "view", 5.0, None), ("u", "i", "buy", 5.0, 1.0)]
    frame = frame_of(event, *others, event, others[0], event)
    assert kept(frame, **{**OFF, "drop_exact_duplicates": True}) == [0, 1, 2]


def test_immediate_repeats():
    """An item again at once is a repeat; with another type, or after another item, it is not."""
    frame = frame_of(
        ("u", "a", "view"),
        ("u", "a", "view"),
        ("v", "a", "view"),  # of another user
        ("u", "a", "view"),  # again a repeat: of the same run
        ("u", "a", "buy"),
        ("u", "b", "view"),
        ("u", "a", "view"),
        ("u", "c"),
        ("u", "c"),
    )
    assert sorted(kept(frame, **{**OFF, "drop_immediate_repeats": True})) == [0, 2, 4, 5, 6, 7]


event_lists = st.lists(
    st.tuples(
        st.sampled_from("uv"),
        st.sampled_from("ab"),
        st.sampled_from(["view", "buy", None]),
        st.sampled_from([1.0, 2.0, 3.0]),
    ),
    min_size=1,
    max_size=30,
)


@given(event_lists)
def test_immediate_repeats_are_those_of_a_plain_loop(events):
    """On any events, those in time order that equal the same user's event before are removed."""
    expected, last = [], {}
    order = sorted(range(len(events)), key=lambda place: (events[place][0], events[place][3]))
    for place in order:
        user, *what, _ = events[place]
        if last.get(user) != what:
            expected.append(place)
        last[user] = what
    assert kept(frame_of(*events), **{**OFF, "drop_immediate_repeats": True}) == expected


@given(event_lists, st.integers(1, 4), st.integers(1, 4))
def test_k_core_is_that_of_a_plain_loop(events, min_user, min_item):
    """On any events, users and items below their minimums are removed until none is left."""
    places = set(range(len(events)))
    while True:
        users = [events[place][0] for place in places]
        items = [events[place][1] for place in places]
        rare = {
            place
            for place in places
            if users.count(events[place][0]) < min_user or items.count(events[place][1]) < min_item
        }
        if not rare:
            break
        places -= rare
    spec = {**OFF, "min_user_events": min_user, "min_item_events": min_item}
    if places:
        assert set(kept(frame_of(*events), **spec)) == places
    else:
        with pytest.raises(DataError, match="k_core removed most"):
            clean(frame_of(*events), **spec)


def test_k_core_goes_on_to_the_end():
    """A chain in which each removal makes the next user or item rare falls as a whole."""
    chain = [(f"u{n}", f"i{n + further}") for n in range(20) for further in (0, 1)]
    square = [(user, item) for user in "xy" for item in "pq"]
    frame = frame_of(*chain, *square)
    rows, steps = clean(frame, **OFF, min_user_events=2, min_item_events=2)
    assert {row[:2] for row in rows} == set(square)
    assert steps[-1] == CleaningStep("k_core", removed=40, left=4)


def test_order_of_the_result():
    """Events come by user, then time, then place in the input."""
    frame = frame_of(
        ("v", "a", None, 1.0),
        ("u", "b", None, 2.0),
        ("u", "a", None, 2.0),
        ("u", "c", None, 1.0),
    )
    assert kept(frame) == [3, 1, 2, 0]


def test_steps_are_taken_and_counted_in_order():
    """A step sees what those before it left, and its counts add up."""
    long = "x" * 513
    frame = frame_of(
        ("u", "a", "view", 1.0),
        ("u", "a", "view", 1.0),  # a duplicate, not a repeat
        ("u", "", "view", 2.0),  # between the first and its repeat until it is removed
        ("u", "a", "view", 3.0),
        ("u", long, "view", None),  # counted where it is met first
        ("u", long, "view", 4.0),
        ("u", "b", "view", 5.0),
    )
    rows, steps = clean(frame)
    assert [row[1] for row in rows] == ["a", "b"]
    assert steps == (
        CleaningStep("missing_ids", 1, 6),
        CleaningStep("missing_timestamps", 1, 5),
        CleaningStep("long_ids", 1, 4),
        CleaningStep("exact_duplicates", 1, 3),
        CleaningStep("immediate_repeats", 1, 2),
    )


def test_steps_can_be_left_out():
    """With every step off only what cannot be used is removed: no id, no time, too long an id."""
    frame = frame_of(
        ("u", None), ("u", "i", None, None), ("u", "x" * 600), ("u", "i"), ("u", "i", None, 3.0)
    )
    rows, steps = clean(frame, **OFF)
    assert [row[5] for row in rows] == [3, 4]
    assert [step.name for step in steps] == ["missing_ids", "missing_timestamps", "long_ids"]


def test_nothing_left():
    """Where nothing is left, the error says what each step removed and which removed most."""
    frame = frame_of(("", "i"), ("u", None), ("u", "i", None, None))
    with pytest.raises(DataError) as raised:
        clean(frame)
    assert str(raised.value) == (
        "of 3 events 0 are left, at least 1 are needed; missing_ids removed most (removed: "
        "missing_ids 2, missing_timestamps 1, long_ids 0, exact_duplicates 0, "
        "immediate_repeats 0)"
    )


def test_too_few_from_the_start():
    """Where cleaning removed nothing, the error does not blame a step."""
    with pytest.raises(DataError, match=r"^2 events are too few to learn from; at least 10 are"):
        clean_events(frame_of(("u", "a"), ("u", "b")), CleaningConfig(), min_events=10)
