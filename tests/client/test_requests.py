"""From Python values to messages, and which values are refused."""

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinrec.client import Event, FieldViolation, InvalidRequestError
from kinrec.client._requests import (
    encode_sequence_request,
    recommend_request,
    similar_users_request,
)

AHEAD = timezone(timedelta(hours=5, minutes=30))


def encode(*events, user_id=None):
    """A request to encode events."""
    return encode_sequence_request(events, user_id=user_id)


def recommend(events=(), **changes):
    """A request for recommendations with everything left out that is not given."""
    fields = {"user_id": None, "limit": None, "include_seen": None, "exclude_item_ids": ()}
    return recommend_request(events, **{**fields, **changes})


def violation(call, *args, **kwargs):
    """The one violation that a call is refused with."""
    with pytest.raises(InvalidRequestError) as raised:
        call(*args, **kwargs)
    (fault,) = raised.value.violations
    assert isinstance(fault, FieldViolation)
    assert raised.value.message == f"{fault.field}: {fault.rule}"
    assert (raised.value.code, raised.value.reason) == (None, "INVALID_FIELD")
    return fault


def test_an_event_keeps_its_order_and_fields():
    """Events arrive in the order given, with every field that was set and no other."""
    request = encode(Event("i7", "view"), Event("i9", "buy", time=1.5, value=2), user_id="u")
    first, second = request.events
    assert (first.item_id, first.event_type) == ("i7", "view")
    assert not first.HasField("time")
    assert not first.HasField("value")
    assert (second.item_id, second.event_type, second.value) == ("i9", "buy", 2.0)
    assert (second.time.seconds, second.time.nanos) == (1, 500_000_000)
    assert request.user_id == "u"


def test_events_may_come_from_a_generator():
    """Any iterable of events will do."""
    request = encode_sequence_request((Event(f"i{n}") for n in range(3)), user_id=None)
    assert [event.item_id for event in request.events] == ["i0", "i1", "i2"]


@pytest.mark.parametrize(
    "time",
    [
        1_767_225_600,
        1_767_225_600.0,
        np.int64(1_767_225_600),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 5, 30, tzinfo=AHEAD),
    ],
)
def test_the_same_moment_in_every_form(time):
    """Seconds and datetimes of any time zone that name one moment become one timestamp."""
    (event,) = encode(Event("i", time=time)).events
    assert (event.time.seconds, event.time.nanos) == (1_767_225_600, 0)


@given(st.floats(min_value=-62_135_596_800, max_value=253_402_300_799))
def test_seconds_come_back_from_the_wire(seconds):
    """Unix seconds lose less than a nanosecond, before 1970 too, and nanoseconds stay in range."""
    (event,) = encode(Event("i", time=seconds)).events
    assert 0 <= event.time.nanos < 1_000_000_000
    assert math.isclose(event.time.seconds + event.time.nanos * 1e-9, seconds, abs_tol=1e-9)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.timezones()))  # noqa: DTZ001 - bounds have no zone
def test_datetimes_come_back_from_the_wire(moment):
    """A datetime of any zone keeps its microseconds."""
    (event,) = encode(Event("i", time=moment)).events
    since = timedelta(seconds=event.time.seconds, microseconds=event.time.nanos // 1000)
    assert moment - datetime(1970, 1, 1, tzinfo=UTC) == since


@pytest.mark.parametrize(
    ("event", "field", "rule"),
    [
        (Event(7), "item_id", "must be a string, not int"),
        (Event(b"i7"), "item_id", "must be a string, not bytes"),
        (Event("\ud800"), "item_id", "lone surrogates"),
        (Event("i", None), "event_type", "must be a string, not NoneType"),
        (Event("i", time="2026-01-01"), "time", "not str"),
        (Event("i", time=True), "time", "not bool"),
        (Event("i", time=datetime(2026, 1, 1)), "time", "must have a time zone"),  # noqa: DTZ001 - the rule
        (Event("i", time=datetime.min.replace(tzinfo=AHEAD)), "time", "the years 1 to 9999"),
        (Event("i", time=math.nan), "time", "unix seconds"),
        (Event("i", time=math.inf), "time", "unix seconds"),
        (Event("i", time=1_767_225_600_000), "time", "milliseconds?"),
        (Event("i", time=10**400), "time", "must be finite"),
        (Event("i", value="5"), "value", "must be a number, not str"),
        (Event("i", value=10**400), "value", "must be finite"),
    ],
)
def test_a_field_that_a_message_cannot_hold_is_named(event, field, rule):
    """The event, the field and the rule are named."""
    fault = violation(encode, Event("fine"), event)
    assert fault.field == f"events[1].{field}"
    assert rule in fault.rule


def test_what_is_no_event_is_named():
    """An element of another type is named by its place."""
    fault = violation(encode, Event("fine"), {"item_id": "i"})
    assert (fault.field, fault.rule) == ("events[1]", "must be an Event, not dict")


@pytest.mark.parametrize("events", [Event("i"), "i7", 5, None])
def test_events_must_be_a_sequence(events):
    """A single event, a string and what cannot be iterated are refused."""
    fault = violation(encode_sequence_request, events, user_id=None)
    assert (fault.field, fault.rule.split(",")[0]) == ("events", "must be a sequence of events")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("user_id", 42, "must be a string, not int"),
        ("user_id", "\udfff", "lone surrogates"),
        ("limit", "10", "must be an integer, not str"),
        ("limit", True, "must be an integer, not bool"),
        ("limit", 2.0, "must be an integer, not float"),
        ("limit", 2**31, "from 1 to 1000"),
        ("limit", 0, "must be from 1 to 1000"),
        ("limit", -1, "must be from 1 to 1000"),
        ("include_seen", 1, "must be a bool, not int"),
        ("exclude_item_ids", "i7", "must be a sequence of item ids, not str"),
        ("exclude_item_ids", None, "must be a sequence of item ids, not NoneType"),
    ],
)
def test_an_argument_that_a_message_cannot_hold_is_named(field, value, rule):
    """The argument and the rule are named."""
    fault = violation(recommend, **{field: value})
    assert fault.field == field
    assert rule in fault.rule


def test_an_excluded_item_is_named_by_its_place():
    """An excluded item id that is no string is named by its place."""
    fault = violation(recommend, exclude_item_ids=["i1", 2])
    assert (fault.field, fault.rule) == ("exclude_item_ids[1]", "must be a string, not int")


def test_what_is_left_out_is_not_sent():
    """Without arguments nothing is set, so that the service's defaults hold."""
    assert recommend().SerializeToString() == b""
    assert similar_users_request((), user_id=None, limit=None).SerializeToString() == b""


@pytest.mark.parametrize("include_seen", [True, False])
def test_include_seen_is_sent_when_given(include_seen):
    """False is not the same as left out."""
    request = recommend(include_seen=include_seen)
    assert request.HasField("include_seen")
    assert request.include_seen is include_seen
