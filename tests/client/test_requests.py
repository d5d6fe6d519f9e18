"""From Python values to messages, and which values are refused."""

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinrec.client import (
    AllOf,
    AnyOf,
    CategoryCap,
    Event,
    FieldViolation,
    InvalidRequestError,
    NoneOf,
    NumberRange,
    Options,
    Query,
    TimeRange,
)
from kinrec.client._requests import (
    encode_sequence_request,
    rank_request,
    recommend_request,
    similar_items_request,
    similar_users_request,
)
from kinrec.v1 import recommender_pb2 as pb

AHEAD = timezone(timedelta(hours=5, minutes=30))


def encode(*events, user_id=None):
    """A request to encode events."""
    return encode_sequence_request(events, user_id=user_id)


def recommend(events=(), **changes):
    """A request for recommendations with everything left out that is not given."""
    return recommend_request(Query(events, **changes))


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
    assert recommend(options=Options()).SerializeToString() == b""
    # Not the object that is the default, and sent as if it were.
    assert recommend(options=Options(diversity=0)).SerializeToString() == b""
    assert similar_users_request((), user_id=None, limit=None).SerializeToString() == b""


@pytest.mark.parametrize("include_seen", [True, False])
def test_include_seen_is_sent_when_given(include_seen):
    """False is not the same as left out."""
    request = recommend(include_seen=include_seen)
    assert request.HasField("include_seen")
    assert request.include_seen is include_seen


def test_options_arrive_in_their_fields():
    """Every option and every kind of condition is sent, and times in either form."""
    new_year = datetime(2026, 1, 1, 5, 30, tzinfo=AHEAD)
    options = Options(
        allow_item_ids=iter(["i1", "i2"]),
        conditions=[
            AnyOf("a", {"x"}),
            AllOf("b", ("x", "y")),
            NoneOf("c", iter("z")),
            NumberRange("d", max=2.5),
            NumberRange("d", min=np.int64(0)),
            TimeRange("e", start=9.5, end=new_year),
            TimeRange("e"),
        ],
        min_score=0.5,
        diversity=0.25,
        category_cap=CategoryCap("a", 2),
        reasons=True,
        search_effort=3,
        exact=True,
        page_token="token",  # noqa: S106 - no secret
    )
    times = pb.TimeRange()
    times.start.seconds, times.start.nanos = 9, 500_000_000
    times.end.seconds = 1_767_225_600
    expected = pb.RecommendRequest(
        allow_item_ids=["i1", "i2"],
        conditions=[
            pb.Condition(attribute="a", any_of=pb.TextValues(values=["x"])),
            pb.Condition(attribute="b", all_of=pb.TextValues(values=["x", "y"])),
            pb.Condition(attribute="c", none_of=pb.TextValues(values=["z"])),
            pb.Condition(attribute="d", number_range=pb.NumberRange(max=2.5)),
            pb.Condition(attribute="d", number_range=pb.NumberRange(min=0)),
            pb.Condition(attribute="e", time_range=times),
            pb.Condition(attribute="e", time_range=pb.TimeRange()),
        ],
        min_score=0.5,
        diversity=0.25,
        category_cap=pb.CategoryCap(attribute="a", limit=2),
        reasons=True,
        search_effort=3,
        exact=True,
        page_token="token",  # noqa: S106 - no secret
    )
    assert recommend(options=options) == expected
    assert recommend(options=options) == expected  # an iterator is not used up


@pytest.mark.parametrize(
    ("options", "field", "rule"),
    [
        ({"conditions": []}, "options", "must be Options, not dict"),
        (Options(allow_item_ids=["i", 2]), "allow_item_ids[1]", "must be a string, not int"),
        (Options(conditions=["a"]), "conditions[0]", "must be a condition, e.g. AnyOf, not str"),
        (Options(conditions=[AnyOf(1, ["x"])]), "conditions[0].attribute", "a string, not int"),
        (
            Options(conditions=[NumberRange("d"), AllOf("b", ["x", None])]),
            "conditions[1].all_of.values[1]",
            "must be a string, not NoneType",
        ),
        (
            Options(conditions=[NumberRange("d", min="1")]),
            "conditions[0].number_range.min",
            "a number, not str",
        ),
        (
            Options(conditions=[NumberRange("d", max=10**400)]),
            "conditions[0].number_range.max",
            "be finite",
        ),
        (
            Options(conditions=[TimeRange("e", math.nan)]),
            "conditions[0].time_range.start",
            "unix seconds",
        ),
        (
            Options(conditions=[TimeRange("e", end=datetime(2026, 1, 1))]),  # noqa: DTZ001 - the rule
            "conditions[0].time_range.end",
            "must have a time zone",
        ),
        (Options(min_score="1"), "min_score", "must be a number, not str"),
        (Options(diversity=True), "diversity", "must be a number, not bool"),
        (Options(category_cap=("a", 2)), "category_cap", "must be a CategoryCap, not tuple"),
        (Options(category_cap=CategoryCap("a", 2.0)), "category_cap.limit", "an integer"),
        (Options(category_cap=CategoryCap("a", 0)), "category_cap.limit", "from 1 to 1000, not 0"),
        (Options(reasons=1), "reasons", "must be a bool, not int"),
        (Options(search_effort=0), "search_effort", "must be from 1 to 100, not 0"),
        (Options(exact=None), "exact", "must be a bool, not NoneType"),
        (Options(page_token=b"t"), "page_token", "must be a string, not bytes"),
    ],
)
def test_an_option_that_a_message_cannot_hold_is_named(options, field, rule):
    """The option, the place in it and the rule are named."""
    fault = violation(recommend, options=options)
    assert fault.field == field
    assert rule in fault.rule


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: AnyOf("a", "tea"), "values"),
        (lambda: AllOf("a", b"tea"), "values"),
        (lambda: NoneOf("a", None), "values"),
        (lambda: Options(allow_item_ids="i7"), "allow_item_ids"),
        (lambda: Options(conditions=AnyOf("a", ["tea"])), "conditions"),
        (lambda: Query("i7"), "events"),
        (lambda: Query(exclude_item_ids=7), "exclude_item_ids"),
    ],
)
def test_a_single_value_is_not_taken_for_many(make, field):
    """A string is no list of texts; it is refused where it is given."""
    fault = violation(make)
    assert fault.field == field
    assert fault.rule.startswith("must be a sequence of ")


def test_options_are_values():
    """Of the same content they are equal, whatever the values came in, and may be keys."""
    one = Options(conditions=[AnyOf("a", ["x", "y"])], allow_item_ids=["i"])
    other = Options(conditions=(AnyOf("a", iter("xy")),), allow_item_ids=("i",))
    assert one == other
    assert len({one, other}) == 1
    assert AnyOf("a", ["x"]) != AllOf("a", ["x"])


def test_the_other_questions_send_what_is_asked():
    """Ranking, similar items and similar users have all their fields."""
    ranking = rank_request(iter(["i1"]), [Event("i7")], user_id="u", state=b"s", reasons=True)
    assert ranking == pb.RankRequest(
        user_id="u", events=[pb.Event(item_id="i7")], state=b"s", item_ids=["i1"], reasons=True
    )
    similar = similar_items_request(
        "i1", limit=3, allow_item_ids=["i2"], conditions=[AnyOf("a", ["x"])]
    )
    assert similar == pb.SimilarItemsRequest(
        item_id="i1",
        limit=3,
        allow_item_ids=["i2"],
        conditions=[pb.Condition(attribute="a", any_of=pb.TextValues(values=["x"]))],
    )
    users = similar_users_request(
        (), user_id="u", limit=None, shared_items=4, search_effort=5, exact=True
    )
    assert users == pb.SimilarUsersRequest(user_id="u", shared_items=4, search_effort=5, exact=True)
    fault = violation(similar_users_request, (), user_id="u", limit=None, shared_items=-1)
    assert fault == FieldViolation("shared_items", "must be from 0 to 100, not -1")
    fault = violation(rank_request, "i7", (), user_id="u", state=b"", reasons=False)
    assert fault.field == "item_ids"
