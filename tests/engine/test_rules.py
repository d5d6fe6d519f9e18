"""The rules by which single events are taken, and that the log was cleaned by the same."""

import narwhals as nw
import numpy as np
import polars as pl
import pytest

from kinrec.bundle.v1.manifest_pb2 import EventSpec, EventType
from kinrec.engine import Event, EventReport
from kinrec.engine.events import NOTHING, EventReader
from kinrec.engine.ids import IdMap
from kinrec.engine.rules import EventRules
from kinrec.trainer.bundle import event_spec
from kinrec.trainer.cleaning import clean_events
from kinrec.trainer.cleaning_config import CleaningConfig
from kinrec.trainer.config import TrainConfig
from kinrec.trainer.log import number_events

ITEMS = IdMap.build(["a", "b", "c"])
SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "event_type": pl.String,
    "timestamp": pl.Float64,
    "value": pl.Float64,
    "input_order": pl.Int64,
}


def reader(**spec):
    """A reader that knows views and buys, and leaves repeats in unless told."""
    types = [EventType(name="view", weight=1), EventType(name="buy", weight=5)]
    return EventReader(EventSpec(event_types=types, max_history=100, **spec), ITEMS)


def read(events, before=NOTHING, **spec):
    """Read (item, type, time, value) events and give the items of those used, and the report."""
    history, report = reader(**spec).read([Event(*event) for event in events], before)
    return "".join(ITEMS.key(item) for item in history.items.tolist()), report


def test_without_rules_everything_is_taken():
    """A manifest that says nothing has no rule that costs anything."""
    rules = EventRules.of(EventSpec())
    assert rules == EventRules()
    assert not rules.looks_at_each
    assert not rules.looks_back


def test_types_that_are_not_taken():
    """Events of other types are left out and counted; those without a type are taken."""
    events = [("a", "view"), ("b", "wave"), ("c", ""), ("x", "wave")]
    items, report = read(events, known_types=["view", "nod"])
    assert items == "ac"
    assert report == EventReport(received=4, used=2, unknown_item=1, dropped=1)


def test_a_known_type_that_no_event_of_the_log_had():
    """A type that is taken but was never seen counts as unspecified."""
    items, report = read([("a", "nod")], known_types=["view", "nod"])
    assert (items, report.unknown_event_type) == ("a", 1)


def test_missing_types():
    """An event without a type is left out, or takes the type that stands in for it."""
    events = [("a", ""), ("b", "view")]
    assert read(events, drop_missing_type=True)[0] == "b"
    history, report = reader(missing_type="buy").read([Event(*event) for event in events], NOTHING)
    assert history.event_types.tolist() == [2, 1]
    assert report.unknown_event_type == 0


@pytest.mark.parametrize(
    ("spec", "items"),
    [
        ({"min_value": 3.0}, "bc"),
        ({"min_value": 0.0}, "abc"),
        ({"min_value": 3.0, "missing_value": 1.0}, "b"),
        ({"min_value": 3.0, "missing_value": 4.0}, "bc"),
        ({"min_value": 3.0, "drop_missing_value": True}, "b"),
        ({"drop_missing_value": True}, "ab"),
        ({"min_value": 9.0, "min_value_types": ["view"]}, "bc"),
        ({"min_value": 9.0, "min_value_types": ["like"]}, "abc"),
        ({"min_value": 9.0, "min_value_types": ["buy"], "missing_value": 1.0}, "a"),
    ],
)
def test_values(spec, items):
    """A value below the least goes; one that is missing goes by what stands in for it."""
    events = [("a", "view", None, 2.0), ("b", "buy", None, 3.0), ("c", "buy", None, None)]
    found, report = read(events, **spec)
    assert found == items
    assert report.dropped == 3 - len(items)


@pytest.mark.parametrize(
    ("times", "items"),
    [
        ([0, 5, 10, 11], "aa"),
        ([0, 5, 10, 20], "aa"),
        ([0, 10, 20, 30], "aa"),
        ([0, 11, 22, 33], "aaaa"),
        ([0, None, 5, 20], "aaa"),
        ([None, 5, 6, None], "aaa"),
        ([20, 15, 5, 25], "aaa"),
    ],
)
def test_the_window_for_repeats(times, items):
    """The same event at most ten seconds from one that was taken is a repeat; unknown times not."""
    events = [("a", "view", time) for time in times]
    found, report = read(events, repeat_window=10.0)
    assert found == items
    assert report.repeated == 4 - len(items)


def test_the_window_is_for_the_same_type_and_item():
    """Another type or item at the same moment is no repeat."""
    events = [("a", "view", 1.0), ("a", "buy", 1.0), ("b", "view", 1.0), ("a", "view", 1.0)]
    assert read(events, repeat_window=10.0)[0] == "aab"


def test_types_that_count_once():
    """Of a named type an item is taken once; its other events are as always."""
    events = [("a", "buy"), ("a", "view"), ("b", "buy"), ("a", "buy"), ("a", "view")]
    found, report = read(events, once_types=["buy", "like"])
    assert (found, report.repeated) == ("aaba", 1)


def test_what_was_stored_counts_as_before():
    """The stored history has been taken: what repeats it goes."""
    first, _ = reader().read([Event("a", "buy", 100.0)], NOTHING)
    assert read([("a", "buy", 999.0), ("b", "buy", 999.0)], first, once_types=["buy"])[0] == "b"
    assert read([("a", "buy", 105.0), ("a", "buy", 111.0)], first, repeat_window=10.0)[0] == "a"


def cleaned_and_read(events, config):
    """Clean a log, read each user's raw events by its rules, and give both results by user."""
    rows = [(*event, place) for place, event in enumerate(events)]
    frame = nw.from_native(pl.LazyFrame(rows, schema=SCHEMA, orient="row"))
    log = number_events(clean_events(frame, config), config)
    reader = EventReader(event_spec(log, TrainConfig(cleaning=config)), log.items)
    stored, asked = {}, {}
    for user in range(len(log.users)):
        user_id = log.users.key(user)
        own = sorted((event for event in events if event[0] == user_id), key=lambda row: row[3])
        history, _ = reader.read([Event(i, kind or "", t, v) for _, i, kind, t, v in own], NOTHING)
        for found, what in ((stored, log.histories.user(user)), (asked, history)):
            found[user_id] = [what.items.tolist(), what.event_types.tolist(), what.times.tolist()]
    return stored, asked


def a_log(rng):
    """400 events of six users with some items rare, some types and values missing."""
    events = []
    for user in "uvwxyz":
        times = np.cumsum(rng.integers(1, 9, 70)).tolist()
        for time in times:
            item = f"i{min(int(rng.exponential(2.0)), 9)}"
            kind = [None, "view", "view", "buy", "like", "wave"][rng.integers(6)]
            events.append((user, item, kind, float(time), [None, 0.0, 1.0, 2.0][rng.integers(4)]))
    return events


def a_config(rng):
    """Rules by chance, each off as often as not."""
    types = [(), ("view", "buy"), ("view", "like", "nod")]
    choices = {
        "known_types": types,
        "min_value": [None, 1.0],
        "missing_value": ["keep", "drop", "constant:0", "mean", "median"],
        "missing_type": ["keep", "drop", "constant:buy", "most_frequent"],
        "repeat_window": [0.0, 3.0, 20.0],
        "once_types": types,
        "drop_immediate_repeats": [True, False],
        "min_user_events": [1, 3],
        "min_item_events": [1, 4, 8],
        "minimums_once": [True, False],
    }
    chosen = {key: values[rng.integers(len(values))] for key, values in choices.items()}
    if chosen["min_value"] is not None:
        chosen["min_value_types"] = types[rng.integers(len(types))]
    return CleaningConfig(**chosen)


@pytest.mark.parametrize("seed", range(40))
def test_requests_are_cleaned_as_the_log_was(seed):
    """Whatever the rules, a user's raw events as a request become the history that is stored."""
    rng = np.random.default_rng(seed)
    stored, asked = cleaned_and_read(a_log(rng), a_config(rng))
    assert asked == stored
    assert len(stored) > 0


@pytest.mark.parametrize("seed", range(40))
def test_what_the_log_had_is_not_heard_twice(seed):
    """A user's raw events, all or from some place on, sent again with new ones: those alone are new."""
    rng = np.random.default_rng(seed)
    events, config = a_log(rng), a_config(rng)
    newer = [
        (user, item, "view", 10_000.0 + 50 * place, 2.0)
        for user in "uvwxyz"
        for place, item in enumerate(["i0", "i0", "i1", "i2"])
    ]
    rows = [(*event, place) for place, event in enumerate(events)]
    frame = nw.from_native(pl.LazyFrame(rows, schema=SCHEMA, orient="row"))
    log = number_events(clean_events(frame, config), config)
    reader = EventReader(event_spec(log, TrainConfig(cleaning=config)), log.items)
    for user in range(len(log.users)):
        user_id = log.users.key(user)
        stored = log.histories.user(user)
        own, new = (
            [Event(i, kind or "", t, v) for who, i, kind, t, v in part if who == user_id]
            for part in (sorted(events, key=lambda row: row[3]), newer)
        )
        expected, _ = reader.read(new, stored)
        for first in (0, *rng.integers(0, len(own) // 2, 5).tolist()):
            found, report = reader.read([*own[first:], *new], stored, is_stored=True)
            assert found.items.tolist() == expected.items.tolist()
            assert found.times.tolist() == expected.times.tolist()
            assert report.late == 0
