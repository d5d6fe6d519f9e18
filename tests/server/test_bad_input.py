"""What a caller can get wrong, against a real bundle."""

import grpc
import pytest

from kinrec.engine import Engine
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

REQUESTS = {
    "EncodeSequence": pb.EncodeSequenceRequest,
    "SimilarUsers": pb.SimilarUsersRequest,
    "Recommend": pb.RecommendRequest,
}
LONG = "x" * 513


@pytest.fixture(scope="module")
def real_engine(bundle_store):
    """The engine of a trained bundle."""
    return Engine.load(bundle_store)


@pytest.fixture
def call(real_engine, start_server, open_channel):
    """Call a method by name with the fields of its request."""
    stub = RecommenderServiceStub(open_channel(start_server(real_engine)))

    def call(method, **fields):
        return getattr(stub, method)(REQUESTS[method](**fields), timeout=30)

    return call


def refusal(call, method, **fields):
    """Make a call that must fail; return its code and its text."""
    with pytest.raises(grpc.RpcError) as caught:
        call(method, **fields)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("method", REQUESTS)
def test_nobody(call, method):
    """A request without a user id, events and a state names all three."""
    code, text = refusal(call, method)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("user_id, events, state: ")


@pytest.mark.parametrize("method", REQUESTS)
def test_an_unknown_user(call, method):
    """A user id that the model does not know, alone, is NOT_FOUND."""
    code, text = refusal(call, method, user_id="no such user")
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.startswith("user_id: ")


@pytest.mark.parametrize("method", ["SimilarUsers", "Recommend"])
@pytest.mark.parametrize("limit", [-1, 1001, 2**31 - 1, -(2**31)])
def test_a_limit_out_of_range(call, method, limit):
    """A negative or huge limit is refused by name."""
    code, text = refusal(call, method, events=[pb.Event(item_id="i")], limit=limit)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("limit: ")


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize(
    ("event", "path"),
    [
        (pb.Event(item_id="i", value=float("nan")), "events[1].value"),
        (pb.Event(item_id="i", value=float("inf")), "events[1].value"),
        (pb.Event(event_type="view"), "events[1].item_id"),
        (pb.Event(item_id=LONG), "events[1].item_id"),
        (pb.Event(item_id="i", event_type=LONG), "events[1].event_type"),
    ],
    ids=["NaN", "infinite", "no item", "long item", "long type"],
)
def test_an_event_that_breaks_a_rule(call, method, event, path):
    """The event and its field are named."""
    code, text = refusal(call, method, events=[pb.Event(item_id="i"), event])
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith(f"{path}: ")


@pytest.mark.parametrize("method", REQUESTS)
def test_too_many_events(call, method):
    """2,001 events are refused."""
    code, text = refusal(call, method, events=[pb.Event(item_id="i")] * 2001)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("events: ")


def test_too_long_ids(call):
    """A long user id and a long excluded id are refused by name."""
    code, text = refusal(call, "Recommend", user_id=LONG)
    assert (code, text.split(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "user_id")
    events = [pb.Event(item_id="i")]
    code, text = refusal(call, "Recommend", events=events, exclude_item_ids=["i", LONG])
    assert (code, text.split(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "exclude_item_ids[1]")
    code, text = refusal(call, "Recommend", events=events, exclude_item_ids=["i"] * 10_001)
    assert (code, text.split(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, "exclude_item_ids")


def test_a_person_without_a_usable_event_is_served(call):
    """Items unknown to the model are counted, and the answer is the popular items."""
    answer = call("Recommend", events=[pb.Event(item_id="no such item")], limit=5)
    assert answer.basis == pb.BASIS_POPULAR
    assert len(answer.recommendations) == 5
    assert answer.event_report.received == answer.event_report.unknown_item == 1
