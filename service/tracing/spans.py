"""Spans: one for each request and one for each of its stages, sent over OTLP where that is asked for.

Off unless OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT (or the one for traces) is set and the packages
of the extra ``otel`` are there. The stages are noted as times, which costs next to nothing, and become spans
when their request has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from service import __version__
from service.tracing.context import TraceContext
from service.tracing.stages import Attribute, RequestTrace, Stage, enter, leave

if TYPE_CHECKING:  # an extra
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NAME = "dit-service"
CLOSE_S = 3.0
"""How long the process's end waits for a collector to take the last spans."""


class ActiveRequest:
    """A request whose span has begun.

    Attributes:
        trace_id: of its trace, the caller's if it named one.
    """

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._trace = RequestTrace()
        self._token = enter(self._trace)
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"

    def end(self, name: str, attributes: Mapping[str, Attribute], *, failed: bool) -> None:
        """Name the span, and end it with those of its stages."""
        leave(self._token)
        if not self._span.is_recording():
            return
        self._span.update_name(name)
        self._span.set_attributes({**self._trace.attributes, **attributes})
        for each in [*self._trace.engine_stages(), *self._trace.stages]:
            self._tracing.record(each, self._span)
        self._tracing.finish(self._span, failed=failed)


class Tracing:
    """Makes spans and hands them to a processor, which exports them in a thread of its own.

    Args:
        processor: takes the spans that have ended.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider

        ours = Resource({SERVICE_NAME: NAME, SERVICE_VERSION: __version__})
        given = Resource.create()  # from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        named = not str(given.attributes[SERVICE_NAME]).startswith("unknown_service")
        resource = ours.merge(given) if named else given.merge(ours)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(NAME, __version__)

    def begin(self, parent: TraceContext | None) -> ActiveRequest:
        """Begin a request's span; what the same task does until its end is part of it."""
        from opentelemetry import trace

        above = None
        if parent is not None:
            context = trace.SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(int(parent.sampled)),
            )
            above = trace.set_span_in_context(trace.NonRecordingSpan(context))
        span = self._tracer.start_span("request", context=above, kind=trace.SpanKind.SERVER)
        return ActiveRequest(self, span)

    def record(self, stage: Stage, parent: Span) -> None:
        """A span with times of its own."""
        from opentelemetry.trace import set_span_in_context

        offset = time.time_ns() - time.monotonic_ns()
        context = set_span_in_context(parent)
        span = self._tracer.start_span(
            stage.name, context=context, start_time=round(stage.began * 1e9) + offset
        )
        span.end(round(stage.ended * 1e9) + offset)

    def finish(self, span: Span, *, failed: bool) -> None:
        """End a span now."""
        from opentelemetry.trace import Status, StatusCode

        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def close(self) -> None:
        """Send what is left, but do not wait long for a collector that is away."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def open_tracing(environment: Mapping[str, str]) -> Tracing | None:
    """Tracing to the collector that the environment names; None without one."""
    if not any(environment.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        line = "no traces are sent: the extra dit-service[otel] is not installed"
        structlog.get_logger().warning(line)
        return None
    return Tracing(BatchSpanProcessor(OTLPSpanExporter()))
