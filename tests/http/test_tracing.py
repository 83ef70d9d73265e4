"""Traces: the caller's context in the log, and a span for each request and each of its stages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.tracing import spans
from service.tracing.context import TraceContext, parse_traceparent
from service.tracing.spans import Tracing, open_tracing
from tests.support.requests import PICTURE, gated_service, generate
from tests.support.services import Running, load_small_runner, running_service, wait_until

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
ROUNDING_NS = 100_000
"""Times of the monotonic clock become those of a calendar through floats."""

STAGES = ["queue", "denoise", "decode", "encode"]


@pytest.mark.parametrize(
    ("values", "context"),
    [
        ([PARENT], TraceContext(TRACE_ID, SPAN_ID, sampled=True)),
        ([f"00-{TRACE_ID}-{SPAN_ID}-00"], TraceContext(TRACE_ID, SPAN_ID, sampled=False)),
        ([f"cc-{TRACE_ID}-{SPAN_ID}-01-more"], TraceContext(TRACE_ID, SPAN_ID, sampled=True)),
        ([], None),
        ([PARENT, PARENT], None),
        ([f"00-{TRACE_ID}-{SPAN_ID}-01-more"], None),
        ([f"ff-{TRACE_ID}-{SPAN_ID}-01"], None),
        ([f"00-{'0' * 32}-{SPAN_ID}-01"], None),
        ([f"00-{TRACE_ID}-{'0' * 16}-01"], None),
        ([PARENT.upper()], None),
        ([f"00-{TRACE_ID}-{SPAN_ID}"], None),
        (["00-" + "\u0663" * 32 + f"-{SPAN_ID}-01"], None),
    ],
)
def test_traceparent_as_the_recommendation_has_it(
    values: list[str], context: TraceContext | None
) -> None:
    assert parse_traceparent(values) == context


class Traced:
    """A service whose spans stay in memory."""

    def __init__(self, running: Running, memory: InMemorySpanExporter) -> None:
        self.running = running
        self._memory = memory

    def spans_of(self, request_id: str) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The span of a request, and those of its stages in the order of their beginnings."""
        wait_until(lambda: any(self._is(span, request_id) for span in self._spans()))
        (root,) = [span for span in self._spans() if self._is(span, request_id)]
        below = [
            span
            for span in self._spans()
            if span.parent is not None and span.parent.span_id == root.context.span_id
        ]
        return root, sorted(below, key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self._spans()]

    def _spans(self) -> tuple[ReadableSpan, ...]:
        return self._memory.get_finished_spans()

    @staticmethod
    def _is(span: ReadableSpan, request_id: str) -> bool:
        return (span.attributes or {}).get("dit.request_id") == request_id


@pytest.fixture(scope="module")
def traced(pipeline_folder: Path) -> Iterator[Traced]:
    memory = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(memory))
    with running_service(lambda: load_small_runner(pipeline_folder), tracing=tracing) as running:
        yield Traced(running, memory)


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/event-stream"])
def test_a_request_is_a_span_with_one_for_each_stage(traced: Traced, accept: str) -> None:
    body = PICTURE | {"seed": 5, "num_images": 1}
    headers = {"Accept": accept, "traceparent": PARENT}
    answer = traced.running.client.post("/generate", json=body, headers=headers)
    assert answer.status_code == 200
    root, stages = traced.spans_of(answer.headers["X-Request-Id"])
    assert root.name == "POST /generate"
    assert root.kind is SpanKind.SERVER
    assert f"{root.context.trace_id:032x}" == TRACE_ID
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == SPAN_ID
    assert [span.name for span in stages] == STAGES
    times = [time for span in stages for time in (span.start_time, span.end_time)]
    inside = [time or 0 for time in (root.start_time, *times, root.end_time)]
    assert all(later >= earlier - ROUNDING_NS for earlier, later in pairwise(inside))


def test_the_attributes_are_those_of_the_conventions(traced: Traced) -> None:
    body = PICTURE | {"seed": 6, "num_images": 2}
    answer = generate(traced.running, body)
    root, _ = traced.spans_of(answer.headers["X-Request-Id"])
    attributes = dict(root.attributes or {})
    (model,) = traced.running.client.get("/models").json()["data"]
    expected = {
        "http.request.method": "POST",
        "http.route": "/generate",
        "http.response.status_code": 200,
        "url.path": "/generate",
        "gen_ai.operation.name": "generate_content",
        "gen_ai.request.model": model["id"],
        "gen_ai.request.seed": 6,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "image",
        "gen_ai.response.id": answer.headers["X-Request-Id"],
        "dit.outcome": "ok",
    }
    assert expected.items() <= attributes.items()
    assert root.resource.attributes["service.name"] == "dit-service"


def test_a_refused_request_has_no_stages(traced: Traced) -> None:
    answer = generate(traced.running, {"class_label": -1})
    root, stages = traced.spans_of(answer.headers["X-Request-Id"])
    assert (root.attributes or {})["dit.outcome"] == "invalid"
    assert root.status.status_code is StatusCode.UNSET
    assert stages == []


def test_a_client_that_leaves_has_the_stages_that_it_saw(pipeline_folder: Path) -> None:
    memory = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(memory))
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, tracing=tracing) as (running, runner),
    ):

        def leave() -> None:
            with pytest.raises(httpx.ReadTimeout):
                running.client.post("/generate", json=PICTURE, timeout=1.2)

        left = pool.submit(leave)
        runner.let(1)
        left.result()
        wait_until(lambda: len(memory.get_finished_spans()) > 0)
        runner.open()
        found = {span.name: span for span in memory.get_finished_spans()}
    assert (found["POST /generate"].attributes or {})["dit.outcome"] == "cancelled"
    assert "encode" not in found


def test_probes_and_scrapes_are_not_traced(traced: Traced) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert traced.running.client.get(path).status_code == 200
    answer = traced.running.client.get("/models")
    traced.spans_of(answer.headers["X-Request-Id"])
    assert not [name for name in traced.names if "z" in name or "metrics" in name]


def test_a_caller_that_does_not_sample_is_heeded(traced: Traced) -> None:
    unsampled = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"}
    before = len(traced.names)
    first = traced.running.client.get("/models", headers=unsampled)
    second = traced.running.client.get("/models")
    traced.spans_of(second.headers["X-Request-Id"])
    assert len(traced.names) == before + 1
    assert first.status_code == 200


@contextmanager
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with capture_logs(processors=[merge_contextvars]) as lines:
        yield lines


@pytest.mark.parametrize("headers", [{"traceparent": PARENT}, {}, {"traceparent": "nonsense"}])
def test_log_lines_have_the_callers_trace_without_any_tracing(
    pipeline_folder: Path, headers: dict[str, str]
) -> None:
    with running_service(lambda: load_small_runner(pipeline_folder)) as running, logged() as lines:
        answer = running.client.get("/models", headers=headers)
        wait_until(lambda: any(line["event"] == "request" for line in lines))
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert line.get("trace_id") == (TRACE_ID if headers.get("traceparent") == PARENT else None)


def test_log_lines_have_the_span(traced: Traced) -> None:
    with logged() as lines:
        answer = generate(traced.running, PICTURE)
        root, _ = traced.spans_of(answer.headers["X-Request-Id"])
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["trace_id"] == f"{root.context.trace_id:032x}"
    assert line["span_id"] == f"{root.context.span_id:016x}"


class Collector:
    """Stands in for an OpenTelemetry collector: keeps what is posted to /v1/traces."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def names(self) -> list[str]:
        return [
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collector() -> Iterator[tuple[Collector, str]]:
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            kept.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_spans_arrive_at_a_collector_over_http(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (kept, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
        tracing = open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
        assert tracing is not None
        with running_service(
            lambda: load_small_runner(pipeline_folder), tracing=tracing
        ) as running:
            assert generate(running, PICTURE).status_code == 200
        tracing.close()
    assert sorted(kept.names) == sorted([*STAGES, "POST /generate"])
    resource = kept.requests[0].resource_spans[0].resource
    named = {each.key: each.value.string_value for each in resource.attributes}
    assert named["service.name"] == "pictures"


def test_a_collector_that_is_away_costs_no_answer_and_a_bounded_stop(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:9"  # nothing listens there
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # or its thread outlives the test
    monkeypatch.setattr(spans, "CLOSE_S", 0.5)
    tracing = open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert tracing is not None
    with running_service(lambda: load_small_runner(pipeline_folder), tracing=tracing) as running:
        assert generate(running, PICTURE).status_code == 200
    tracing.close()


def test_tracing_is_off_unless_a_collector_is_named() -> None:
    assert open_tracing({}) is None
    assert open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None


def test_without_the_extra_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None
    )
    with capture_logs() as lines:
        assert open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}) is None
    assert "dit-service[otel]" in lines[0]["event"]
