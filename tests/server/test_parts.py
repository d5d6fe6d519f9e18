"""Large requests of very many parts are refused before they take memory, and no others are."""

import resource
import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kinrec.engine import InvalidFieldError
from kinrec.server.config import MAX_REQUEST_BYTES
from kinrec.server.parts import MAX_PARTS, check_parts
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

EVENT, QUERY, EXCLUDED, CONDITION = b"\x12\x00", b"\x0a\x00", b"\x2a\x00", b"\x42\x00"


def field(number, data):
    """A field of bytes of a message."""
    size, length = bytearray(), len(data)
    while length >= 0x80:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data


def refusal(kind, data):
    """The field that the bytes of a request are refused for; None if they are not."""
    try:
        check_parts(kind.DESCRIPTOR, data)
    except InvalidFieldError as error:
        return error.field
    return None


@pytest.mark.parametrize(
    ("kind", "many", "name"),
    [
        (pb.RecommendRequest, lambda n: EVENT * n, "events"),
        (pb.RecommendRequest, lambda n: EXCLUDED * n, "exclude_item_ids"),
        (pb.RecommendRequest, lambda n: CONDITION * n, "conditions"),
        (pb.BatchRecommendRequest, lambda n: QUERY * n, "requests"),
        (pb.BatchRecommendRequest, lambda n: field(1, EVENT * (n - 1)), "requests[0].events"),
        (
            pb.BatchRecommendRequest,
            lambda n: QUERY * 2 + field(1, EXCLUDED * (n - 3)),
            "requests[2].exclude_item_ids",
        ),
        (
            pb.RecommendRequest,
            lambda n: field(8, field(2, b"\x0a\x00" * (n - 2))),
            "conditions[0].any_of.values",
        ),
        (pb.RecommendStreamRequest, lambda n: field(1, EVENT * (n - 1)), "start.events"),
        # As the decoder reads them, if no one who is honest writes so: a tag of two bytes, a group before.
        (pb.RecommendRequest, lambda n: b"\x92\x00\x00" * n, "events"),
        (pb.RecommendRequest, lambda n: b"\x9b\x06\x9c\x06" + EVENT * n, "events"),
    ],
)
def test_parts_are_counted(kind, many, name):
    """At any depth, up to the most that there may be; one more is refused, and where it is is named."""
    kind.FromString(many(MAX_PARTS))
    assert refusal(kind, many(MAX_PARTS)) is None
    assert refusal(kind, many(MAX_PARTS + 1)) == name


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 2_000_000, EVENT * 5 + b"\x12", b"\x12\xff", field(8, b"\x12\xff\xff\xff\x0f")],
)
def test_bytes_that_are_no_message_are_left_to_the_decoder(data):
    """They are passed over quickly."""
    began = time.monotonic()
    assert refusal(pb.RecommendRequest, data) is None
    assert time.monotonic() - began < 1


def test_the_largest_requests_are_let_through():
    """A request and a batch with as much as the limits allow have far fewer parts."""
    times = {"time": Timestamp(seconds=1), "value": 0.5}
    events = [pb.Event(item_id="i" * 64, event_type="view", **times) for _ in range(2_000)]
    ids = [f"i{number}" for number in range(10_000)]
    texts = [
        pb.Condition(attribute="a", any_of=pb.TextValues(values=["x"] * 50)) for _ in range(20)
    ]
    one = pb.RecommendRequest(
        events=events, exclude_item_ids=ids, allow_item_ids=ids, conditions=texts
    )
    assert refusal(pb.RecommendRequest, one.SerializeToString()) is None
    query = pb.RecommendRequest(
        user_id="u",
        events=[pb.Event(item_id="i")] * 79,
        exclude_item_ids=ids[:39],
        allow_item_ids=ids[:39],
        conditions=texts,
        category_cap=pb.CategoryCap(attribute="a", limit=1),
        state=b"s",
        page_token=b"p",
    )
    batch = pb.BatchRecommendRequest(requests=[query] * 256).SerializeToString()
    assert len(batch) < MAX_REQUEST_BYTES
    assert refusal(pb.BatchRecommendRequest, batch) is None


def test_a_hostile_request_takes_no_memory(engine, start_server, open_channel):
    """The caller is told the field and the rule; the process grows by the bytes alone."""
    channel = open_channel(start_server(engine))
    stub = RecommenderServiceStub(channel)
    stub.Recommend(pb.RecommendRequest(user_id="u"), timeout=10)
    data = QUERY * (MAX_REQUEST_BYTES // 2 - 10)
    call = channel.unary_unary("/kinrec.v1.RecommenderService/BatchRecommend")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(grpc.RpcError) as caught:
        call(data, timeout=30)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == f"requests: a request has at most {MAX_PARTS:,} parts in all"
    assert grown < 150_000  # KiB; nearly 1 GB if it is decoded
