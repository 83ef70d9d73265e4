"""Keys: who is let in, where, and what is said to others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from service.http.keys.key_list import parse_keys
from service.tracing.spans import Tracing
from tests.support import raw
from tests.support.keys import ALICE, BOB, bearer, key_ring
from tests.support.requests import PICTURE, send_bytes
from tests.support.services import Running, load_small_runner, running_service, wait_until

GUARDED = [
    ("GET", "/classes"),
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("POST", "/generate"),
    ("POST", "/verify"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/dit"),
    ("POST", "/v1/images/generations"),
    ("HEAD", "/classes"),
    ("OPTIONS", "/generate"),
    ("GET", "/nothing"),
    ("GET", "/livez/"),
    ("GET", "/docs/x"),
    ("GET", "/playground"),
]
OPEN = ["/livez", "/readyz", "/", "/docs", "/openapi.json", "/playground/app.js"]


@pytest.fixture(scope="module")
def locked(pipeline_folder: Path) -> Iterator[Running]:
    """A service for alice and bob."""
    with running_service(lambda: load_small_runner(pipeline_folder), keys=key_ring()) as running:
        yield running


def ask(service: Running, method: str, path: str, **headers: str) -> httpx.Response:
    body = json.dumps(PICTURE) if method == "POST" else None
    return service.client.request(method, path, content=body, headers=headers)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_without_a_key_nothing_is_answered(locked: Running, method: str, path: str) -> None:
    for headers in ({}, bearer("x" * 30)):
        answer = ask(locked, method, path, **headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert locked.queue_row_steps == 0


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_pages_need_no_key(locked: Running, path: str) -> None:
    for headers in ({}, bearer("x" * 30)):
        answer = locked.client.get(path, headers={"Accept": "*/*, text/html", **headers})
        assert answer.status_code == 200


def test_what_is_below_the_playground_leads_nowhere_else(locked: Running) -> None:
    for path in ("/playground/../generate", "/playground/..%2fgenerate", "/playground/%2e%2e/x"):
        request = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with raw.connect(locked, request.encode()) as connection:
            status = raw.read_all(connection).split(b" ")[1]
        assert status in (b"404", b"405")


@pytest.mark.parametrize("key", [ALICE, BOB])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}"])
def test_with_a_key_everything_is_answered(locked: Running, key: str, form: str) -> None:
    for method, path in (("POST", "/generate"), ("GET", "/classes"), ("GET", "/metrics")):
        answer = ask(locked, method, path, Authorization=form.format(key))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        ALICE,
        f"Basic {ALICE}",
        f"Bearer {ALICE}x",
        f"Bearer {ALICE[:-1]}",
        f"Bearer {ALICE.upper()}",
        f"Bearer {ALICE} {BOB}",
        f"Bearer {ALICE},{BOB}",
        f"Bearer,{ALICE}",
        "Bearer alice",
        "Bearer \xe4\xf6\xfc",
        f"Bearer {'x' * 10_000}",
    ],
)
def test_anything_else_is_not_a_key(locked: Running, given: str) -> None:
    head = (
        f"GET /classes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {given}\r\n\r\n"
    )
    with raw.connect(locked, head.encode("latin-1")) as connection:
        answer = raw.read_all(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert ALICE.encode() not in answer


def test_a_digest_is_not_the_key(locked: Running) -> None:
    for key in key_ring().keys:
        for given in (key.digest.hex(), f"sha256:{key.digest.hex()}"):
            assert ask(locked, "GET", "/classes", **bearer(given)).status_code == 401


def test_two_keys_are_none(locked: Running) -> None:
    headers = [("Authorization", f"Bearer {ALICE}"), ("Authorization", f"Bearer {BOB}")]
    assert locked.client.get("/classes", headers=headers).status_code == 401


def test_a_key_in_another_place_is_none(locked: Running) -> None:
    elsewhere = {"X-Api-Key": ALICE, "Cookie": f"key={ALICE}"}
    answer = locked.client.get(f"/classes?key={ALICE}&api_key={ALICE}", headers=elsewhere)
    assert answer.status_code == 401


def test_the_refusal_is_a_problem(locked: Running) -> None:
    answer = ask(locked, "POST", "/generate")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json() == {
        "type": "urn:dit-service:invalid-api-key",
        "title": "Invalid API key",
        "status": 401,
        "detail": "an API key is needed: send it as Authorization: Bearer KEY",
        "request_id": answer.headers["X-Request-Id"],
    }
    wrong = ask(locked, "POST", "/generate", **bearer("x" * 30))
    assert wrong.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert wrong.json()["detail"] == "the API key is not valid"


def test_below_v1_it_has_openais_form(locked: Running) -> None:
    for path in ("/v1/images/generations", "/v1/nothing"):
        answer = ask(locked, "POST", path)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")


def test_nothing_of_the_body_is_read(locked: Running) -> None:
    """Neither is it asked for, nor is the answer late."""
    head = "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n"
    with raw.connect(locked, f"{head}Expect: 100-continue\r\n\r\n".encode()) as connection:
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    answered = send_bytes(locked, b"x" * 100_000)  # more than any body may have
    assert answered.status == 401


def test_a_key_does_not_lift_the_other_guards(locked: Running) -> None:
    evil = {"Origin": "https://evil.example", **bearer(ALICE)}
    assert ask(locked, "POST", "/generate", **evil).status_code == 403
    compressed = {"Content-Encoding": "gzip", **bearer(ALICE)}
    assert ask(locked, "POST", "/generate", **compressed).status_code == 415


def test_metrics_are_open_only_where_asked(pipeline_folder: Path) -> None:
    with running_service(
        lambda: load_small_runner(pipeline_folder), keys=key_ring(), metrics_without_key=True
    ) as running:
        assert running.client.get("/metrics").status_code == 200
        assert running.client.get("/classes").status_code == 401


def test_a_friendly_page_may_send_a_key(pipeline_folder: Path) -> None:
    friend = {"Origin": "https://app.example"}
    with running_service(
        lambda: load_small_runner(pipeline_folder),
        keys=key_ring(),
        cors_origins=("https://app.example",),
    ) as running:
        asks = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        asked = running.client.options("/generate", headers=friend | asks)
        assert asked.status_code == 200
        assert "authorization" in asked.headers["Access-Control-Allow-Headers"]
        refused = running.client.get("/classes", headers=friend)
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "WWW-Authenticate" in refused.headers["Access-Control-Expose-Headers"]
        assert ask(running, "POST", "/generate", **friend, **bearer(ALICE)).status_code == 200


def test_keys_come_and_go_between_requests(pipeline_folder: Path) -> None:
    """Also on a connection that stays open."""
    ring = key_ring()
    with running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running:
        assert ask(running, "GET", "/classes", **bearer(ALICE)).status_code == 200
        ring.replace(parse_keys([f"bob: {BOB}"]))
        assert ask(running, "GET", "/classes", **bearer(ALICE)).status_code == 401
        assert ask(running, "GET", "/classes", **bearer(BOB)).status_code == 200


def test_a_key_is_in_no_line_answer_or_metric_but_its_name_is(locked: Running) -> None:
    seen = []
    with capture_logs() as logged:
        for headers in (
            {},
            bearer(ALICE),
            bearer(f"{ALICE}x"),
            {"Authorization": f"Basic {ALICE}"},
        ):
            for method, path in (
                ("POST", "/generate"),
                ("GET", "/v1/nothing"),
                ("GET", f"/classes?key={ALICE}"),
            ):
                answer = ask(locked, method, path, **headers)
                seen.append(answer.text + str(answer.headers))
        wait_until(lambda: len([each for each in logged if each["event"] == "request"]) == 12)
    seen.append(locked.client.get("/metrics", headers=bearer(BOB)).text)
    seen.append(locked.client.get("/openapi.json").text + locked.client.get("/docs").text)
    seen.append(str(logged))
    for text in seen:
        assert ALICE not in text
        assert BOB not in text
        assert key_ring().keys[0].digest.hex() not in text
    names = [each.get("key") for each in logged if each["event"] == "request"]
    assert names == [None] * 3 + ["alice"] * 3 + [None] * 6


def test_a_span_has_the_keys_name_and_no_key(pipeline_folder: Path) -> None:
    memory = InMemorySpanExporter()
    with running_service(
        lambda: load_small_runner(pipeline_folder),
        keys=key_ring(),
        tracing=Tracing(SimpleSpanProcessor(memory)),
    ) as running:
        for headers in (bearer(ALICE), bearer(f"{ALICE}x")):
            ask(running, "POST", "/generate", **headers)
        wait_until(lambda: len(memory.get_finished_spans()) >= 6)
    spans = [(span.name, dict(span.attributes or {})) for span in memory.get_finished_spans()]
    roots = [attributes for name, attributes in spans if name.startswith("POST")]
    assert [each.get("dit.key") for each in roots] == ["alice", None]
    assert [each["dit.outcome"] for each in roots] == ["ok", "unauthorized"]
    assert ALICE not in str(spans)


def test_requests_are_counted_by_the_names_of_keys(pipeline_folder: Path) -> None:
    with running_service(lambda: load_small_runner(pipeline_folder), keys=key_ring()) as running:
        for headers in ({}, bearer("x" * 30), bearer("alice"), bearer(BOB), bearer(BOB)):
            ask(running, "POST", "/generate", **headers)
        ask(running, "GET", "/nothing", **bearer(ALICE))
        running.client.get("/livez", headers=bearer(ALICE))

        def counted(name: str, **labels: str) -> float:
            return running.metric(f"dit_key_{name}_total", **labels)

        wait_until(lambda: counted("requests", key="alice", outcome="invalid") == 1)
        assert counted("requests", key="bob", outcome="ok") == 2
        assert counted("rejections", key="", reason="missing") == 1
        assert counted("rejections", key="", reason="unknown") == 2
        refused = running.metric("dit_requests_total", route="unmatched", outcome="unauthorized")
        assert refused == 3
        text = running.client.get("/metrics", headers=bearer(BOB)).text
        assert set(re.findall(r'^dit_key_requests_total{key="(\w*)"', text, re.MULTILINE)) == {
            "alice",
            "bob",
        }


def test_without_keys_a_header_is_not_looked_at(service: Running) -> None:
    assert ask(service, "POST", "/generate", **bearer("anything")).status_code == 200
    assert "securitySchemes" not in service.client.get("/openapi.json").json()["components"]


def test_the_document_says_what_needs_a_key(locked: Running) -> None:
    document = locked.client.get("/openapi.json").json()
    (name,) = document["components"]["securitySchemes"]
    scheme = document["components"]["securitySchemes"][name]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    paths = {path: next(iter(item.values())) for path, item in document["paths"].items()}
    for path, operation in paths.items():
        answer = ask(locked, "GET", path.format(model="x"))
        needs_key = answer.status_code == 401
        assert operation["security"] == ([{name: []}] if needs_key else [])
        assert ("401" in operation["responses"]) is needs_key
    assert "WWW-Authenticate" in paths["/generate"]["responses"]["401"]["headers"]


def test_the_page_of_the_api_has_a_field_for_the_key(locked: Running, service: Running) -> None:
    assert 'id="key"' in locked.client.get("/docs").text
    assert 'id="key"' not in service.client.get("/docs").text
