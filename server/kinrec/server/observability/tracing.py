"""A trace of each call with a span for each stage, where the environment asks for traces.

The variables are OpenTelemetry's own: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_TRACES_EXPORTER asks for
them, OTEL_TRACES_SAMPLER and the others say how. The libraries are those of the extra ``telemetry``.
"""

from __future__ import annotations

import logging
import os
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING

from kinrec.server.observability.calls import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

    from kinrec.server.observability.calls import Call

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_TIMEOUT_SECONDS = 2.0
_EXPORTER = "OTEL_TRACES_EXPORTER"
_OTLP, _NONE = "otlp", "none"

_log = logging.getLogger(__name__)


def wanted_exporter(environment: Mapping[str, str] = os.environ) -> str:
    """Give the name of the exporter that the environment asks for; empty if it asks for none."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    name = environment.get(_EXPORTER, "").strip()
    if not name and any(environment.get(variable) for variable in _ENDPOINTS):
        name = _OTLP
    return "" if name == _NONE else name


def find_tracing(service: str) -> Tracing | None:
    """Give what traces calls; None where nothing asks for it or it cannot be had, which is logged.

    Args:
        service: The full name of the gRPC service.
    """
    name = wanted_exporter()
    if not name:
        return None
    if name != _OTLP:
        _log.warning("no traces: %s must be %s or %s, is %r", _EXPORTER, _OTLP, _NONE, name)
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError:
        _log.warning(
            "no traces: they need the telemetry: install kinrec with its extra 'telemetry'"
        )
        return None
    # What is left is sent when the process ends, and a collector that is away must not hold that up.
    is_set = any(os.environ.get(variable) for variable in _TIMEOUTS)
    return Tracing(service, OTLPSpanExporter(timeout=None if is_set else _TIMEOUT_SECONDS))


class Tracing(Watcher):
    """Sends the spans of calls to an exporter, in the background.

    Args:
        service: The full name of the gRPC service.
        exporter: Takes the spans.
    """

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - of an extra
        from opentelemetry.sdk.resources import (  # noqa: PLC0415
            OTELResourceDetector,
            Resource,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._api = trace
        self._service = service
        named = Resource.create({"service.name": "kinrec", "process.pid": os.getpid()})
        # The sdk sends what is left when the process ends.
        self._provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer("kinrec")
        self._parents = TraceContextTextMapPropagator()
        self._open: dict[int, Span] = {}

    def begin(self, call: Call) -> None:
        """Begin the span of the call, below the caller's if it named one."""
        carrier = {
            name: value
            for name, value in call.context.invocation_metadata()
            if isinstance(value, str)
        }
        method = f"{self._service}/{call.method}"
        span = self._tracer.start_span(
            method,
            context=self._parents.extract(carrier),
            kind=self._api.SpanKind.SERVER,
            attributes={"rpc.system.name": "grpc", "rpc.method": method},
            start_time=_since_1970(call.opened),
        )
        self._open[id(call)] = span
        call.trace_id = f"{span.get_span_context().trace_id:032x}"

    def answered(self, call: Call) -> None:
        """Add the stages of the call, or of the message of a stream."""
        span = self._open[id(call)]
        if not span.is_recording():  # not in the sample
            return
        below = self._api.set_span_in_context(span)
        for stage, begin, end in call.spans():
            part = self._tracer.start_span(stage, context=below, start_time=_since_1970(begin))
            part.end(_since_1970(end))

    def end(self, call: Call, code: str, reason: str) -> None:
        """End the span of the call."""
        span = self._open.pop(id(call))
        span.set_attribute("rpc.response.status_code", code)
        if call.model_version:
            span.set_attribute("kinrec.model_version", call.model_version)
        if reason:
            span.set_attribute("error.type", reason)
            span.set_status(self._api.StatusCode.ERROR)
        span.end(_since_1970(call.ended))

    def flush(self) -> None:
        """Send what is left."""
        self._provider.force_flush()


def _since_1970(at: float) -> int:
    """Turn a time of ``time.monotonic`` into nanoseconds since 1970 UTC."""
    return time_ns() - monotonic_ns() + round(at * 1e9)
