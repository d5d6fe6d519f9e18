"""What cleaning removes, and that it counts it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinrec.trainer.cleaning import CleaningStep, Substitutes, clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.errors import DataError

OFF = {
    "drop_exact_duplicates": False,
    "drop_immediate_repeats": False,
}


def clean(frame, **config):
    cleaned = clean_events(frame, CleaningConfig(**config))
    return cleaned.frame.collect().rows(), cleaned.steps


def kept(frame, **config):
    return [row[5] for row in clean(frame, **config)[0]]


def test_missing_ids(frame_of):
    """Events whose user or item is null, empty or white space are removed."""
    frame = frame_of(("u", "i"), (None, "i"), ("u", None), ("", "i"), ("u", " \t"), (" u", "i "))
    rows, steps = clean(frame, **OFF)
    assert [row[:2] for row in rows] == [(" u", "i "), ("u", "i")]
    assert steps[0] == CleaningStep("missing_ids", removed=4, left=2)


def test_ids_with_nul(frame_of):
    """An id that holds a NUL is removed: the id map would take it for what stands before."""
    frame = frame_of(("u", "i"), ("u\0v", "i"), ("u", "i\0"))
    assert kept(frame, **OFF) == [0]


def test_missing_timestamps(frame_of):
    """Events without a time are removed."""
    frame = frame_of(("u", "i", None, 5.0), ("u", "i", None, None))
    assert kept(frame, **OFF) == [0]


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_long_ids(frame_of, character):
    """Ids of 512 UTF-8 bytes are kept, of more are not."""
    size = len(character.encode())
    fits = character * (512 // size) + "x" * (512 % size)
    frame = frame_of((fits, "i"), (fits + "x", "i"), ("u", fits), ("u", fits + "x"))
    assert sorted(kept(frame, **OFF)) == [0, 2]


def test_exact_duplicates(frame_of):
    """Of events equal in every column, nulls included, the first is kept."""
    event = ("u", "i", "view", 5.0, 1.0)
    others = [("u", "i", "view", 5.0, None), ("u", "i", "buy", 5.0, 1.0)]
    frame = frame_of(event, *others, event, others[0], event)
    assert kept(frame, **{**OFF, "drop_exact_duplicates": True}) == [0, 1, 2]


def test_immediate_repeats(frame_of):
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
def test_immediate_repeats_are_those_of_a_plain_loop(frame_of, events):
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
def test_k_core_is_that_of_a_plain_loop(frame_of, events, min_user, min_item):
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


def test_k_core_goes_on_to_the_end(frame_of):
    """A chain in which each removal makes the next user or item rare falls as a whole."""
    chain = [(f"u{n}", f"i{n + further}") for n in range(20) for further in (0, 1)]
    square = [(user, item) for user in "xy" for item in "pq"]
    frame = frame_of(*chain, *square)
    rows, steps = clean(frame, **OFF, min_user_events=2, min_item_events=2)
    assert {row[:2] for row in rows} == set(square)
    assert steps[-1] == CleaningStep("k_core", removed=40, left=4)


def test_order_of_the_result(frame_of):
    """Events come by user, then time, then place in the input."""
    frame = frame_of(
        ("v", "a", None, 1.0),
        ("u", "b", None, 2.0),
        ("u", "a", None, 2.0),
        ("u", "c", None, 1.0),
    )
    assert kept(frame) == [3, 1, 2, 0]


def test_steps_are_taken_and_counted_in_order(frame_of):
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


def test_steps_can_be_left_out(frame_of):
    """With every step off only what cannot be used is removed: no id, no time, too long an id."""
    frame = frame_of(
        ("u", None), ("u", "i", None, None), ("u", "x" * 600), ("u", "i"), ("u", "i", None, 3.0)
    )
    rows, steps = clean(frame, **OFF)
    assert [row[5] for row in rows] == [3, 4]
    assert [step.name for step in steps] == ["missing_ids", "missing_timestamps", "long_ids"]


def test_nothing_left(frame_of):
    """Where nothing is left, the error says what each step removed and which removed most."""
    frame = frame_of(("", "i"), ("u", None), ("u", "i", None, None))
    with pytest.raises(DataError) as raised:
        clean(frame)
    assert str(raised.value) == (
        "of 3 events 0 are left, at least 1 are needed; missing_ids removed most (removed: "
        "missing_ids 2, missing_timestamps 1, long_ids 0, exact_duplicates 0, "
        "immediate_repeats 0)"
    )


def test_too_few_from_the_start(frame_of):
    """Where cleaning removed nothing, the error does not blame a step."""
    with pytest.raises(DataError, match=r"^2 events are too few to learn from; at least 10 are"):
        clean_events(frame_of(("u", "a"), ("u", "b")), CleaningConfig(), min_events=10)


ALL_STEPS = {
    "missing_time": "mean:user",
    "missing_type": "most_frequent:item",
    "missing_value": "interpolate",
    "known_types": ("view", "buy", "like"),
    "earliest_time": "1970-01-01T00:00:02",
    "latest_time": "now",
    "max_events_per_hour": 25,
    "min_value": 2.0,
    "min_value_types": ("view",),
    "repeat_window": 5.0,
    "once_types": ("like",),
    "min_user_events": 2,
    "min_item_events": 2,
}


def a_log():
    """Events in which steps find something; no two of a user at the same time, but equal ones."""
    rng = np.random.default_rng(11)
    events, undated = [], set()
    for place in range(300):
        user = f"u{min(int(rng.exponential(9.0)), 40)}"
        kind = [None, "view", "view", "buy", "like", "wave"][rng.integers(6)]
        value = float(rng.integers(5)) if rng.random() < 0.7 else None
        time = place / 7.0 + (5_000.0 * (place % 3))
        if rng.random() < 0.2 and user not in undated:  # two of a user would get the same time
            undated.add(user)
            time = None
        events.append((user, f"i{rng.integers(12)}", kind, time, value))
    return [
        *events,
        *events[:5],
        ("bot", "i1", "view", 20_000.0),
        *[("v", "i2", "like", 50.0 * n) for n in range(1, 3)],
    ]


def test_every_step_is_counted_by_its_name_in_order(frame_of):
    """What each step removed and filled adds up from the events received to those left."""
    events = [*a_log(), *[("bot", f"i{n}", "buy", 100.0 + n) for n in range(30)]]
    cleaned = clean_events(frame_of(*events), CleaningConfig(**ALL_STEPS), now=9_000.0)
    assert [step.name for step in cleaned.steps] == [
        "missing_ids",
        "missing_timestamps",
        "long_ids",
        "missing_types",
        "missing_values",
        "exact_duplicates",
        "outside_time_range",
        "fast_users",
        "unknown_types",
        "low_values",
        "repeats_in_window",
        "once_types",
        "immediate_repeats",
        "k_core",
    ]
    left = len(events)
    for step in cleaned.steps:
        assert step.left == left - step.removed
        left = step.left
    assert left == len(cleaned.frame.collect()) > 20
    idle = {step.name for step in cleaned.steps if not step.removed + step.filled}
    assert idle == {"missing_ids", "long_ids"}
    assert {step.name for step in cleaned.steps if step.filled} == {
        "missing_timestamps",
        "missing_types",
        "missing_values",
    }


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"missing_value": "mean:item", "missing_time": "mean:item", "minimums_once": True},
        {"missing_value": "gaussian", "missing_time": "drop", "missing_type": "most_frequent"},
    ],
)
def test_the_order_of_the_rows_changes_nothing(frame_of, changed):
    """But for equal times, the same events in another order leave the same, to the last bit."""
    config = CleaningConfig(**{**ALL_STEPS, **changed})
    events = a_log()
    found = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(events)) if seed else range(len(events))
        frame = frame_of(*(events[place] for place in order))
        rows = clean_events(frame, config, now=9_000.0).frame.collect().rows()
        found.append([row[:5] for row in rows])
    assert len(found[0]) > 20
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"missing_type": "drop"}, "missing_types"),
        ({"missing_value": "drop"}, "missing_values"),
        ({"known_types": ("buy",)}, "unknown_types"),
        ({"earliest_time": "2020-01-01"}, "outside_time_range"),
        ({"latest_time": "1960-01-01"}, "outside_time_range"),
        ({"max_events_per_hour": 1}, "fast_users"),
        ({"min_user_events": 9}, "k_core"),
    ],
)
def test_a_step_that_removes_all_is_named(frame_of, config, name):
    """The error says which step took the events away, and how many."""
    kind = None if name == "missing_types" else "view"
    frame = frame_of(("u", "a", kind), ("u", "b", kind))
    with pytest.raises(DataError, match=rf"0 are left.*; {name} removed most .*{name} 2"):
        clean(frame, **config)


def test_low_values_that_remove_all_are_named(frame_of):
    """The threshold too says what it did."""
    frame = frame_of(("u", "a", "view", 1.0, 1.0), ("u", "b", "view", 2.0, 0.0))
    with pytest.raises(DataError, match="low_values removed most"):
        clean(frame, min_value=3.0)


def test_an_item_that_goes_leaves_no_repeat(frame_of):
    """Where a rare item stood between two equal events, they are one, as requests will have it."""
    frame = frame_of(
        ("u", "a"), ("u", "rare"), ("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "b")
    )
    rows, steps = clean(frame, min_item_events=2)
    assert [row[5] for row in rows] == [0, 3, 4, 5, 6]
    assert steps[-1] == CleaningStep("k_core", removed=2, left=5)


def test_minimums_once(frame_of):
    """Applied once, the minimums leave users who became rare when items went."""
    frame = frame_of(("u", "a"), ("u", "b"), ("v", "b"), ("v", "c"))
    rows, _ = clean(frame, min_user_events=2, min_item_events=2, minimums_once=True)
    assert [row[5] for row in rows] == [1, 2]
    with pytest.raises(DataError, match="k_core"):
        clean(frame, min_user_events=2, min_item_events=2)


def test_what_stands_in_for_missing_entries_is_known_for_requests(frame_of):
    """A constant or a statistic over all is handed on; what goes by neighbours is not."""
    frame = frame_of(("u", "a", "buy", 1.0, 4.0), ("u", "b", "buy", 2.0, 8.0), ("v", "a"))
    for value, event_type, expected in (
        ("mean", "most_frequent", Substitutes(6.0, "buy")),
        ("median:user", "most_frequent:item", Substitutes(6.0, "buy")),
        ("constant:1", "constant:view", Substitutes(1.0, "view")),
        ("interpolate", "drop", Substitutes(None, "")),
        ("keep", "keep", Substitutes(None, "")),
    ):
        config = CleaningConfig(missing_value=value, missing_type=event_type)
        assert clean_events(frame, config).substitutes == expected
