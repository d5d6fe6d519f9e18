"""The events of a request: what is used, what is left out, what is refused."""

import math

import numpy as np
import pytest

from kinrec.bundle.v1.manifest_pb2 import EventSpec, EventType
from kinrec.engine import (
    GAP_BUCKETS,
    MAX_EVENTS,
    MAX_ID_BYTES,
    Event,
    EventTable,
    InvalidFieldError,
)
from kinrec.engine.events import EventReader, History, gap_code, gap_codes
from kinrec.engine.ids import IdMap
from kinrec.trainer.cleaning import clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.reading import EventColumns, read_events

ITEMS = IdMap.build(["a", "b", "c"])
NONE = History(np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.float64))


def reader(max_history=100, drop_immediate_repeats=True):
    types = [EventType(name="view", weight=1), EventType(name="buy", weight=5)]
    spec = EventSpec(
        event_types=types,
        max_history=max_history,
        drop_immediate_repeats=drop_immediate_repeats,
    )
    return EventReader(spec, ITEMS)


def names(history):
    return "".join(ITEMS.key(item) for item in history.items.tolist())


def stored(text, types, times):
    items = np.array([ITEMS.get(name) for name in text], np.int32)
    return History(items, np.array(types, np.uint8), np.array(times, np.float64))


def test_every_event_is_counted_once():
    """Received is the sum of used, unknown, repeated and truncated."""
    events = [Event(name, "view") for name in "abbxcabbyxabc"]

    history, report = reader(max_history=4).read(events, NONE)

    assert names(history).endswith("babc")
    assert report.received == 13
    assert (report.unknown_item, report.repeated) == (3, 2)
    assert (report.used, report.truncated) == (4, 4)


def test_events_beyond_the_memory_are_counted_and_handed_on():
    """More than the model remembers are truncated for the sources, but the encoder gets them all."""
    history, report = reader(max_history=2).read([Event(name) for name in "abc"], NONE)

    assert names(history) == "abc"
    assert names(NONE.then(history, 2)) == names(history.last(2)) == "bc"
    assert (report.used, report.truncated) == (2, 1)


def test_types():
    """A known type has its code; an unknown one counts as unspecified and is reported."""
    events = [Event("a", "view"), Event("b", "buy"), Event("c"), Event("a", "wave")]

    history, report = reader().read(events, NONE)

    assert history.event_types.tolist() == [1, 2, 0, 0]
    assert report.unknown_event_type == 1


@pytest.mark.parametrize(
    ("events", "used"),
    [
        ([("a", "view"), ("a", "view")], "a"),
        ([("a", "view"), ("a", "buy")], "aa"),
        ([("a", "view"), ("b", "view"), ("a", "view")], "aba"),
        ([("a", "view"), ("x", "view"), ("a", "view")], "a"),
        ([("a", ""), ("a", "")], "a"),
        ([("a", "wave"), ("a", "wave")], "a"),
        ([("a", "wave"), ("a", "nod")], "a"),
        ([("a", "wave"), ("a", "")], "a"),
    ],
)
def test_immediate_repeats(events, used):
    """Only an event with the item and the type of the one before is a repeat."""
    history, report = reader().read([Event(*event) for event in events], NONE)

    assert names(history) == used
    assert report.used + report.repeated + report.unknown_item == len(events)


def test_a_repeat_of_the_stored_history():
    """The first event of a request can repeat the last one that the model has stored."""
    before = stored("ab", [1, 1], [0, 1])

    history, report = reader().read([Event("b", "view"), Event("c", "view")], before)

    assert names(history) == "c"
    assert report.repeated == 1


def test_a_user_of_whom_nothing_is_stored():
    """As one whose only events were held out: nothing that is sent was heard before."""
    history, report = reader().read([Event("a", "view", 5.0)], NONE, is_stored=True)

    assert (names(history), report.used) == ("a", 1)


def test_repeats_stay_where_the_model_keeps_them():
    """A model trained with repeats sees those of requests too."""
    history, report = reader(drop_immediate_repeats=False).read([Event("a"), Event("a")], NONE)

    assert (names(history), report.repeated) == ("aa", 0)


@pytest.mark.parametrize(
    ("times", "late"),
    [
        ([11, 12, 13], 0),
        ([9, 12, 13], 1),
        ([12, 11, 10], 2),
        ([11, None, 10], 0),
        ([None, 9, 8], 1),
        ([1e308, -1e308, 1e308], 1),
    ],
)
def test_late_events(times, late):
    """An event is late if its time is before that of the event before, stored ones included."""
    events = [Event(name, time=time) for name, time in zip("abc", times, strict=True)]

    _, report = reader().read(events, stored("c", [0], [10]))

    assert report.late == late


def test_late_after_truncation():
    """The oldest event that is kept is compared with the one that was cut off before it."""
    events = [Event("a", time=5), Event("b", time=3), Event("c", time=4)]

    _, report = reader(max_history=2).read(events, stored("c", [0], [0]))

    assert report.late == 1


@pytest.mark.parametrize(
    ("event", "field", "rule"),
    [
        (Event(""), "item_id", "must not be empty"),
        (Event("é" * 257), "item_id", f"at most {MAX_ID_BYTES} bytes, has 514"),
        (Event("a", "t" * 513), "event_type", f"at most {MAX_ID_BYTES} bytes, has 513"),
        (Event("a", time=math.nan), "time", "must be finite"),
        (Event("a", time=math.inf), "time", "must be finite"),
        (Event("a", value=math.nan), "value", "must be finite"),
        (Event("a", value=-math.inf), "value", "must be finite"),
        (Event("unknown", value=math.nan), "value", "must be finite"),
    ],
)
def test_a_bad_event_is_refused(event, field, rule):
    """A refusal names the event's place, the field and the rule."""
    with pytest.raises(InvalidFieldError) as raised:
        reader().read([Event("a"), event], NONE)

    assert raised.value.field == f"events[1].{field}"
    assert rule in raised.value.rule


def test_the_longest_id_is_taken():
    """An id of exactly the most bytes is not refused."""
    _, report = reader().read([Event("é" * 256)], NONE)

    assert report.unknown_item == 1


def test_the_most_events():
    """The limit itself is allowed, one more is not."""
    events = [Event("a"), Event("b")] * (MAX_EVENTS // 2)

    assert reader().read(events, NONE)[1].received == MAX_EVENTS
    with pytest.raises(InvalidFieldError, match=f"events: at most {MAX_EVENTS}.* got 2001"):
        reader().read([*events, Event("a")], NONE)


@pytest.mark.parametrize(
    ("gap", "code"),
    [(0, 1), (0.5, 1), (1, 2), (2.9, 2), (3, 3), (7, 4), (86400, 17), (2.0**40, 31), (-5, 1)],
)
def test_gap_codes(gap, code):
    """The bucket is the binary logarithm of the gap; a step back in time is no gap."""
    assert gap_codes(np.array([1e9, 1e9 + gap])).tolist() == [0, code]
    assert 0 <= code < GAP_BUCKETS


def test_unknown_gaps():
    """The first event and those beside an unknown time have the code of an unknown gap."""
    assert gap_codes(np.array([0.0, np.nan, 5.0, 5.0])).tolist() == [0, 0, 0, 1]
    assert gap_codes(np.array([-1e308, 1e308])).tolist() == [0, GAP_BUCKETS - 1]
    assert gap_codes(np.zeros(0)).tolist() == []


def test_requests_are_cleaned_as_the_log_was(sample_dir, model):
    """A person's events with the repeats left in become the history that training stored."""
    columns = EventColumns()
    frame = read_events([sample_dir / "events.csv"], columns)
    cleaned = clean_events(frame, CleaningConfig(drop_immediate_repeats=False)).frame.collect()
    people = {}
    for user, item, kind, time in zip(
        *(cleaned[name].to_list() for name in ("user_id", "item_id", "event_type", "timestamp")),
        strict=True,
    ):
        people.setdefault(user, []).append(Event(item, kind or "", float(time)))

    repeated = 0
    for user, events in people.items():
        history, report = model.reader.read(events, NONE)
        expected = model.histories.user(model.users.get(user))
        np.testing.assert_array_equal(history.items, expected.items)
        np.testing.assert_array_equal(history.event_types, expected.event_types)
        np.testing.assert_array_equal(history.times, expected.times)
        repeated += report.repeated

    assert len(people) == len(model.users)
    assert repeated > 50


def test_one_gap_has_the_code_it_has_among_many():
    """The code of a lone gap is that of gap_codes, over the whole range and at its edges."""
    edges = [np.nan, -np.inf, np.inf, -5.0, 0.0, 1e300]
    gaps = np.array([*edges, *(2.0 ** np.arange(-5, 40) - 1.0), *np.geomspace(1e-3, 1e12, 200)])
    for gap in gaps:
        assert gap_code(float(gap)) == gap_codes(np.array([0.0, gap]))[1]


def test_a_table_of_events_is_read_as_a_list_of_them():
    """It gives its events one by one and in part, and what becomes of them is the same."""
    events = [
        Event("a", "view", 1.0),
        Event("b", "wave", None, 2.0),
        Event("x"),
        Event("c", "", 0.5),
    ]

    table = EventTable.of(events)

    assert EventTable.of(table) is table
    assert len(EventTable.of([])) == 0
    assert list(table) == events
    assert list(table[1:3]) == events[1:3]
    (history, report), (expected, expected_report) = (
        reader().read(asked, NONE) for asked in (table, events)
    )
    assert report == expected_report
    assert history.items.tolist() == expected.items.tolist()
    assert (report.late, report.unknown_event_type, report.unknown_item) == (0, 1, 1)
    assert reader().read(EventTable.of([]), NONE)[1].received == 0
