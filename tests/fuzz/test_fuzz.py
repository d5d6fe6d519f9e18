"""Hostile calls of every method end as docs/api.md says; `make fuzz` makes many more of them."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzzing.campaign import attack, learn
from fuzzing.checks import Violation, check
from fuzzing.documented import STATUS_OF
from fuzzing.requests import EVERY_KIND, Maker, calls, message_of
from fuzzing.service import METHODS, Call, Outcome, Target
from fuzzing.values import Known
from kinrec.engine import Engine
from kinrec.server.app import RecommenderServer
from kinrec.server.config import MAX_REQUEST_BYTES, ServerConfig
from kinrec.server.engines import Engines
from kinrec.server.errors import Failure
from kinrec.v1 import recommender_pb2 as pb

RECOMMEND = next(method for method in METHODS if method.name == "Recommend")
CALL = Call(
    RECOMMEND, (pb.RecommendRequest(user_id="u", exclude_item_ids=["i9"]).SerializeToString(),)
)
ANSWER = pb.RecommendResponse(state=b"of u", next_page_token="a1b2c3")  # noqa: S106 - no password
DRAWING = settings(
    database=None,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


def test_hostile_calls_end_as_documented(address):
    """Never a crash, a hang, an undocumented status or a text from inside; the server goes on."""
    maker = learn(address)
    report = attack(address, maker, count=400, seed_number=1, threads=2)
    assert report.violation is None
    assert report.counts.total() == 400
    assert {name for name, _ in report.counts} == {method.name for method in METHODS}
    statuses = {status.split()[0] for _, status in report.counts}
    assert statuses >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert learn(address).pages  # which it asks for as anyone would


@pytest.fixture
def broken_address(bundle_store):
    """A server with a bug: it fails for a limit of less than 10."""
    engine = Engine.load(bundle_store)
    answer = engine.similar_users

    def similar_users(*, limit, **question):
        if limit < 10:
            raise RuntimeError("a bug")
        return answer(limit=limit, **question)

    engine.similar_users = similar_users
    server = RecommenderServer(Engines(engine), ServerConfig(port=0))
    server.start()
    yield server.address
    assert server.stop(0).wait(10)


def test_a_bug_is_found_and_the_smallest_request_shown(broken_address):
    """The service fails, and the request that shows it has no more than it takes."""
    maker = learn(broken_address)
    report = attack(broken_address, maker, count=500, seed_number=1, threads=1)
    assert report.violation.what == "the service failed"
    (request,) = report.violation.call.requests()
    assert 0 < request.limit < 10
    assert request.ByteSize() < 10
    assert f"limit: {request.limit}" in str(report.violation)


# What is drawn.


def drawn(count, descriptor, maker):
    """Draw messages of a type, of every kind."""
    found = []

    @settings(DRAWING, max_examples=count)
    @given(st.data())
    def draw(data):
        found.append(message_of(data.draw, maker, descriptor, EVERY_KIND))

    draw()
    return found


def test_every_method_and_every_field_is_called():
    """So is what is added to the protos later; some bytes are no message at all."""
    found = []
    maker = Maker(Known({"user": ["u1"], "item": ["i1"]}))
    maker.collect(CALL, [ANSWER])

    @settings(DRAWING, max_examples=1_500)
    @given(calls(maker))
    def draw(call):
        found.append(call)

    draw()
    for method in METHODS:
        requests = [
            request for call in found if call.method is method for request in call.requests()
        ]
        assert None in requests
        seen = {field.name for request in requests if request for field, _ in request.ListFields()}
        assert seen == {field.name for field in method.input_type.fields}


def test_the_next_page_is_asked_for_rightly_and_wrongly():
    """With the token it is given, changed, for another request, and as bytes that are no message."""
    maker = Maker(Known({}))
    maker.collect(CALL, [ANSWER])
    found = []

    @settings(DRAWING, max_examples=1_000)
    @given(calls(maker))
    def draw(call):
        found.extend(call.requests() if call.method is RECOMMEND else ())

    draw()
    (asked,) = maker.pages[0].requests()
    assert asked in found
    of_it = [request for request in found if request and request.user_id == "u"]
    assert any(request.page_token not in ("", asked.page_token) for request in of_it)
    assert any(request.page_token == asked.page_token and request != asked for request in of_it)


def future_message():
    """A message with kinds of fields that the service has not yet."""
    file = FileDescriptorProto(name="future.proto", package="future", syntax="proto3")
    message = file.message_type.add(name="Future")
    message.oneof_decl.add(name="choice")
    entry = message.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    entry.field.add(name="value", number=2, type="TYPE_INT32", label="LABEL_OPTIONAL")
    scalars = [
        kind
        for kind in FieldDescriptorProto.Type.keys()  # noqa: SIM118 - not a dict
        if kind not in ("TYPE_MESSAGE", "TYPE_GROUP", "TYPE_ENUM")
    ]
    numbers = itertools.count(1)
    for kind in scalars:
        for label in ("optional", "repeated"):
            name = f"{kind.lower()}_{label}"
            message.field.add(
                name=name, number=next(numbers), type=kind, label=f"LABEL_{label.upper()}"
            )
    for name in ("a", "b"):
        message.field.add(
            name=name, number=next(numbers), type="TYPE_STRING", label="LABEL_OPTIONAL", oneof_index=0
        )  # fmt: skip
    nested = {"self": ".future.Future", "selves": ".future.Future", "labels": ".future.Future.LabelsEntry"}  # fmt: skip
    for name, kind in nested.items():
        label = "LABEL_OPTIONAL" if name == "self" else "LABEL_REPEATED"
        message.field.add(
            name=name, number=next(numbers), type="TYPE_MESSAGE", type_name=kind, label=label
        )
    message.field.add(
        name="page_token", number=next(numbers), type="TYPE_STRING", label="LABEL_OPTIONAL"
    )
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("future.Future")


def test_kinds_of_fields_that_are_not_there_yet_are_drawn():
    """Every scalar, one of several, maps, a message in itself, a page token."""
    descriptor = future_message()
    maker = Maker(Known({}))
    answer = drawn(1, descriptor, maker)[0]
    answer.page_token = "of a page"  # noqa: S105 - no password
    maker.tokens.collect("List", answer)
    messages = drawn(200, descriptor, maker)
    seen = {field.name for message in messages for field, _ in message.ListFields()}
    assert seen == {field.name for field in descriptor.fields}
    tokens = {message.page_token for message in messages}
    assert tokens - {"", "of a page"}
    assert any(math.isnan(message.type_double_optional) for message in messages)
    assert max(message.ByteSize() for message in messages) < 32 * 1024 * 1024


def test_streams_are_called():
    """The four kinds of methods, each with as many requests and answers as it may have."""
    file = FileDescriptorProto(name="streams.proto", package="streams", syntax="proto3")
    file.message_type.add(name="Nothing")
    service = file.service.add(name="Streams")
    for name, (sends, gives) in {"UU": (0, 0), "US": (0, 1), "SU": (1, 0), "SS": (1, 1)}.items():
        service.method.add(
            name=name, input_type=".streams.Nothing", output_type=".streams.Nothing",
            client_streaming=sends, server_streaming=gives,
        )  # fmt: skip
    pool = DescriptorPool()
    pool.Add(file)
    methods = pool.FindServiceByName("streams.Streams").methods
    handlers = {
        "UU": grpc.unary_unary_rpc_method_handler(lambda data, _: data),
        "US": grpc.unary_stream_rpc_method_handler(lambda data, _: iter([data, data])),
        "SU": grpc.stream_unary_rpc_method_handler(lambda data, _: next(data)),
        "SS": grpc.stream_stream_rpc_method_handler(lambda data, _: data),
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("streams.Streams", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    target = Target(f"127.0.0.1:{port}", methods)
    try:
        outcomes = [
            target.send(Call(m, (b"",) * (3 if m.client_streaming else 1))) for m in methods
        ]
    finally:
        target.close()
        server.stop(0).wait(10)
    assert [(o.code, len(o.answers)) for o in outcomes] == [
        (grpc.StatusCode.OK, count) for count in (1, 2, 1, 3)
    ]


# What is checked.


INVALID = grpc.StatusCode.INVALID_ARGUMENT


def failed(failure, **changes):
    """The outcome of a call that ended with a failure."""
    fields = {"code": failure.code, "text": failure.message, "details": failure.details()}
    return Outcome(**{**fields, "answers": (), "seconds": 0.1, **changes})


def answered(**fields):
    """The outcome of a call that was answered."""
    return Outcome(grpc.StatusCode.OK, "", b"", (pb.RecommendResponse(**fields),), 0.1)


def items(*item_ids, score=1.0):
    """Recommendations of items."""
    return [pb.Recommendation(item_id=item_id, score=score) for item_id in item_ids]


def invalid(message="limit: is wrong", reason="INVALID_FIELD", field="limit", rule="is wrong"):
    """A failure because of a field."""
    return Failure(INVALID, reason, message, field, rule)


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (failed(invalid(), seconds=11.0), "the call took 11 s"),
        (failed(invalid(), code=grpc.StatusCode.DEADLINE_EXCEEDED), "the call hangs"),
        (failed(invalid(), code=grpc.StatusCode.UNAVAILABLE), "the server is gone"),
        (failed(Failure(grpc.StatusCode.INTERNAL, "INTERNAL", "failed")), "the service failed"),
        (failed(invalid(), code=grpc.StatusCode.NOT_FOUND), "is not documented"),
        (failed(invalid(reason="NO_SUCH")), "is not documented"),
        (failed(invalid(), details=b""), "the domain is ''"),
        (failed(invalid(), details=b"\xff"), "no google.rpc.Status"),
        (failed(invalid(rule="")), "no field is named"),
        (failed(invalid(field="limits")), "'limits' is no field"),
        (failed(invalid(field="limit[3]")), "is no field"),
        (failed(invalid(field="events[3].when")), "is no field"),
        (failed(invalid(reason="MALFORMED_MESSAGE")), "the bytes are a message"),
        (failed(invalid("x" * 2_000)), "the text has 2,000"),
        (failed(invalid("limit: ValueError('no')")), "'ValueError' from inside"),
        (failed(invalid(rule="see /usr/lib/x")), "'/usr/' from inside"),
        (failed(invalid("limit: <object at 0x7f3a>")), "'object at 0x' from inside"),
        (answered(recommendations=items("a", score=math.nan)), "score is not finite"),
        (answered(recommendations=items("a", "a")), "an item_id twice"),
        (answered(recommendations=items("i9")), "an excluded item"),
        (answered(recommendations=items(*map(str, range(11)))), "has 11 elements, 10 are"),
        (answered(event_report=pb.EventReport(received=1)), "1 events were received, 0 sent"),
        (answered(event_report=pb.EventReport(used=1)), "does not add up"),
        (answered(event_report=pb.EventReport(late=1)), "more unknown types or late"),
    ],
)  # fmt: skip
def test_what_must_not_be_is_seen(outcome, what):
    """Each check finds what it is for."""
    with pytest.raises(Violation) as caught:
        check(CALL, outcome)
    assert what in caught.value.what


def batch(*results, count=1):
    """A batch of requests, and the results for it."""
    method = next(method for method in METHODS if method.name == "BatchRecommend")
    request = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(limit=1)] * count)
    answer = pb.BatchRecommendResponse(results=results)
    return Call(method, (request.SerializeToString(),)), Outcome(
        grpc.StatusCode.OK, "", b"", (answer,), 0.1
    )


def result(**failure):
    """A request of a batch that failed."""
    fields = {"code": 3, "reason": "ERROR_REASON_INVALID_FIELD", "message": "m", "field": "limit"}
    return pb.RecommendResult(failure=pb.Failure(**{**fields, **failure}))


@pytest.mark.parametrize(
    ("called", "what"),
    [
        (batch(), "0 results for 1 requests"),
        (batch(result(code=5)), "NOT_FOUND and the reason 'INVALID_FIELD'"),
        (batch(result(code=13, reason="ERROR_REASON_INTERNAL")), "failed for a part"),
        (batch(result(field="")), "names '', which is no field"),
        (batch(result(field="requests")), "names 'requests', which is no field"),
        (batch(result(message="")), "has 0 characters"),
        (batch(result(message="a KeyError")), "'KeyError' from inside"),
        (
            batch(
                pb.RecommendResult(response=pb.RecommendResponse(recommendations=items("a", "b")))
            ),
            "has 2 elements, 1 are",
        ),
    ],
)
def test_what_must_not_be_is_seen_within_an_answer(called, what):
    """A failure of a part is checked as one of a call is, and its answer as an answer."""
    with pytest.raises(Violation) as caught:
        check(*called)
    assert what in caught.value.what


@pytest.mark.parametrize(
    "outcome",
    [
        failed(invalid()),
        failed(invalid(field="events[3].time")),
        failed(Failure(grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER", "user_id: not known")),
        answered(recommendations=items("a", "b"), event_report=pb.EventReport()),
    ],
)
def test_what_may_be_passes(outcome):
    """A documented error, and an answer to the request."""
    check(CALL, outcome)
    check(*batch(result()))


def test_bytes_that_are_no_message_are_refused_as_such():
    """Neither an answer nor another reason will do, and a request that is too large is not taken."""
    malformed = Call(RECOMMEND, (b"\xff",))
    check(malformed, failed(invalid(reason="MALFORMED_MESSAGE", field="")))
    large = Call(RECOMMEND, (bytes(MAX_REQUEST_BYTES + 1),))
    check(large, failed(invalid(), code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=b""))
    for call, outcome in itertools.product((malformed, large), (failed(invalid()), answered())):
        with pytest.raises(Violation):
            check(call, outcome)


def test_only_a_request_that_is_too_large_may_lose_its_connection():
    """Closed with bytes unread it is reset; a server that cannot be reached is gone all the same."""
    large = Call(RECOMMEND, (bytes(MAX_REQUEST_BYTES + 1),))
    cut_off = Outcome(grpc.StatusCode.UNAVAILABLE, "Stream removed (Socket closed)", b"", (), 0.1)
    gone = Outcome(grpc.StatusCode.UNAVAILABLE, "failed to connect", b"", (), 0.1)
    check(large, cut_off)
    for call, outcome in [(CALL, cut_off), (CALL, gone), (large, gone)]:
        with pytest.raises(Violation, match="the server is gone"):
            check(call, outcome)


def test_the_documented_errors_are_read():
    """From the page, with their statuses."""
    assert STATUS_OF["UNKNOWN_USER"] == "NOT_FOUND"
    assert len(STATUS_OF) == len(pb.ErrorReason.keys()) - 1
