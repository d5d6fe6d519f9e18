"""The events of a request read by column are those read one by one, whatever some of them lack."""

import math

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from kinrec.engine import InvalidFieldError
from kinrec.server.from_wire import events_from_proto
from kinrec.v1 import recommender_pb2 as pb

SECONDS = st.sampled_from([0, 1, -1, 1_750_000_000, -62_135_596_800, 253_402_300_799])
NANOS = st.sampled_from([0, 1, 500_000_000, 999_999_999])
ALWAYS = {
    "item_id": st.text(min_size=1, max_size=3),
    "event_type": st.just("view"),
    "time": st.builds(Timestamp, seconds=SECONDS, nanos=NANOS),
    "value": st.floats(allow_nan=False),
}


@st.composite
def requests(draw):
    """A request with many events; each field is set in all, some or none of them."""
    kind = draw(st.sampled_from([pb.RecommendRequest, pb.RankRequest, pb.EventList]))
    fields = {
        name: draw(st.sampled_from([always, st.none() | always, st.none()]))
        for name, always in ALWAYS.items()
    }
    count = draw(st.integers(8, 12))
    return kind(
        events=[
            pb.Event(**{name: draw(values) for name, values in fields.items()})
            for _ in range(count)
        ]
    )


@given(requests())
def test_columns_are_read_as_rows(request):
    """Whatever is set in which event, and the request stays as it is."""
    before = request.SerializeToString()
    table = events_from_proto(request)
    assert list(table.item_ids) == [row.item_id for row in request.events]
    assert list(table.event_types) == [row.event_type for row in request.events]
    assert list(table.times) == [
        row.time.seconds + row.time.nanos * 1e-9 if row.HasField("time") else None
        for row in request.events
    ]
    assert list(table.values) == [
        row.value if row.HasField("value") else None for row in request.events
    ]
    assert request.SerializeToString() == before


@pytest.mark.parametrize("stamp", [{"seconds": 1 << 60}, {"seconds": 9, "nanos": -1}])
def test_a_time_out_of_range_is_named(stamp):
    """Among many as among few."""
    events = [pb.Event(item_id="i", time=Timestamp(seconds=5, nanos=5)) for _ in range(9)]
    events[7].time.CopyFrom(Timestamp(**stamp))
    with pytest.raises(InvalidFieldError, match=r"events\[7\]\.time"):
        events_from_proto(pb.RecommendRequest(events=events))


def test_a_field_twice_in_one_event_counts_once():
    """The last one does, by the rules of the format, and moves nothing to another event."""
    twice, none = b"\x0a\x01a\x0a\x01b", b""
    data = b"".join(b"\x12" + bytes([len(each)]) + each for each in [twice, none] * 5)
    table = events_from_proto(pb.RecommendRequest.FromString(data))
    assert list(table.item_ids) == ["b", ""] * 5


def test_a_number_that_is_no_number_is_handed_on():
    """It is the engine that refuses it."""
    events = [pb.Event(item_id="i", value=math.nan) for _ in range(9)]
    table = events_from_proto(pb.RecommendRequest(events=events))
    assert all(map(math.isnan, table.values))
