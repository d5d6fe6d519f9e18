"""Traces: who asks for them, where they go, what is in them."""

import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kinrec.engine import Engine, UnknownUserError
from kinrec.server.engines import Engines
from kinrec.server.observability import watching
from kinrec.server.observability.tracing import Tracing, find_tracing, wanted_exporter
from kinrec.v1 import recommender_pb2 as pb
from kinrec.v1.recommender_pb2_grpc import RecommenderServiceStub

SERVICE = "kinrec.v1.RecommenderService"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BY_CALLER = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
VIEW = pb.Event(item_id="i7", event_type="view")


@pytest.fixture
def traced(monkeypatch, start_server_of, open_channel):
    """Start servers whose spans are kept; return how to call one and its spans once they are there."""

    def start(engine):
        exporter = InMemorySpanExporter()
        tracing = Tracing(SERVICE, exporter)
        monkeypatch.setattr(watching, "find_tracing", lambda _service: tracing)
        stub = RecommenderServiceStub(open_channel(start_server_of(Engines(engine))))

        def spans():
            tracing.flush()
            return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)

        return stub, spans

    return start


def test_a_call_has_a_span_for_each_stage(traced, bundle_store):
    """All below the span of the call, which is below the caller's, one after the other."""
    stub, spans = traced(Engine.load(bundle_store))
    stub.Recommend(pb.RecommendRequest(events=[VIEW]), metadata=BY_CALLER)
    found = spans()
    (call,) = [span for span in found if span.name == f"{SERVICE}/Recommend"]
    stages = [span for span in found if span is not call]
    assert f"{call.context.trace_id:032x}" == TRACE
    assert f"{call.parent.span_id:016x}" == PARENT
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert call.attributes["kinrec.model_version"]
    assert {stage.parent.span_id for stage in stages} == {call.context.span_id}
    names = [stage.name for stage in stages]
    assert names[:5] == ["receive", "queue", "decode", "turn", "read"]
    assert {"search", "encode"} < set(names)
    assert names[-1] == "answer"
    for one, following in itertools.pairwise(stages):
        assert abs(following.start_time - one.end_time) < 1_000_000  # ns; clocks are read apart
    attributes = str([dict(span.attributes) for span in found])
    assert "i7" not in attributes


def test_a_failure_is_an_error(traced, engine):
    """The span of a call that fails has the code and the reason, and no stages."""
    engine.failure = UnknownUserError()
    stub, spans = traced(engine)
    with pytest.raises(grpc.RpcError):
        stub.Recommend(pb.RecommendRequest(user_id="u"))
    (call,) = spans()
    assert not call.status.is_ok
    assert call.attributes["error.type"] == "UNKNOWN_USER"
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert call.parent is None


def test_each_message_of_a_stream_has_its_stages(traced, engine):
    """They are all below the span of the stream."""
    stub, spans = traced(engine)
    start = pb.RecommendStreamRequest(start=pb.RecommendRequest(user_id="u"))
    more = pb.RecommendStreamRequest(events=pb.EventList(events=[VIEW]))
    list(stub.RecommendStream(iter([start, more, more])))
    names = [span.name for span in spans()]
    assert names.count("decode") == 3
    assert names.count(f"{SERVICE}/RecommendStream") == 1


class Collector(BaseHTTPRequestHandler):
    """Takes spans by OTLP over HTTP."""

    def do_POST(self):
        """Keep the request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Write nothing."""


def test_spans_are_sent_where_the_environment_says(monkeypatch, engine, start_server, open_channel):
    """OTEL_EXPORTER_OTLP_ENDPOINT alone turns traces on; they are sent in the background."""
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        collector.taken = []
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-recommender")
        made = []
        real = watching.find_tracing
        monkeypatch.setattr(
            watching, "find_tracing", lambda service: made.append(real(service)) or made[-1]
        )
        stub = RecommenderServiceStub(open_channel(start_server(engine)))
        stub.GetModel(pb.GetModelRequest())
        made[0].flush()
        collector.shutdown()
    ((path, request),) = collector.taken
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert named["service.name"] == "shop-recommender"
    assert f"{SERVICE}/GetModel" in [
        span.name for scope in resource.scope_spans for span in scope.spans
    ]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
    ],
)
def test_what_the_environment_asks_for(environment, name):
    """The variables are read as OpenTelemetry says."""
    assert wanted_exporter(environment) == name


def test_what_cannot_be_had_is_said_and_left_out(monkeypatch, caplog):
    """A server without the libraries, or with another exporter, serves without traces."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert find_tracing(SERVICE) is None
    assert "is 'zipkin'" in caplog.text
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert find_tracing(SERVICE) is None
    assert "install kinrec with its extra 'telemetry'" in caplog.text
