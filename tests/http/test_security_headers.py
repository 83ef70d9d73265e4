"""Security headers: on every answer, whoever gives it, and a policy for each page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.raw import connect, read_all
from tests.support.requests import PICTURE
from tests.support.services import Running, load_small_runner, running_service

FRIEND = "https://app.example"
JSON, EVENTS = "application/json", "text/event-stream"
HTML = {"Accept": "text/html"}
POLICY = "content-security-policy"
EVERYWHERE = {
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


@pytest.fixture(scope="module")
def guarded(pipeline_folder: Path) -> Iterator[Running]:
    """A service with one friendly site, a small body limit and a port for its metrics."""
    with running_service(
        lambda: load_small_runner(pipeline_folder),
        allowed_hosts=("dit.example",),
        cors_origins=(FRIEND,),
        max_body_bytes=1024,
        metrics_hosts=("dit.example",),
    ) as running:
        yield running


def check(headers: Mapping[str, str]) -> str:
    """That every answer's headers are there; the policy."""
    assert {name: headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert "server" not in headers
    policy = headers[POLICY]
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    return policy


def is_nothing(policy: str) -> bool:
    """Whether a policy lets an answer load and run nothing at all."""
    return policy.startswith("default-src 'none'; base-uri") and "-src 'self'" not in policy


ANSWERS: list[tuple[str, str, dict[str, str], object, int]] = [
    ("POST", "/generate", {"Accept": "image/png"}, PICTURE, 200),
    ("POST", "/generate", {"Accept": JSON}, PICTURE, 200),
    ("POST", "/generate", {"Accept": "application/zip"}, PICTURE, 200),
    ("POST", "/generate", {"Accept": EVENTS}, PICTURE, 200),
    ("POST", "/generate", {"Origin": FRIEND}, PICTURE, 200),
    ("POST", "/v1/images/generations", {}, {"prompt": "pear"}, 200),
    *(("GET", path, {}, None, 200) for path in ("/", "/livez", "/readyz", "/classes", "/models")),
    ("GET", "/v1/models", {}, None, 200),
    ("GET", "/openapi.json", {}, None, 200),
    ("HEAD", "/classes", {}, None, 200),
    ("OPTIONS", "/generate", {}, None, 204),
    ("POST", "/generate", {"Origin": "https://evil.example"}, PICTURE, 403),
    ("GET", "/nothing", {}, None, 404),
    ("GET", "/metrics", {}, None, 404),
    ("POST", "/generate", {}, {"class_label": "nothing"}, 404),
    ("DELETE", "/generate", {}, None, 405),
    ("POST", "/generate", {"Accept": "text/html"}, PICTURE, 406),
    ("POST", "/generate", {}, {"x": "y" * 2000}, 413),
    ("GET", "/" + "x" * 8000, {}, None, 414),
    ("POST", "/generate", {"Content-Type": "text/plain"}, PICTURE, 415),
    ("GET", "/livez", {"Host": "evil.example"}, None, 421),
    ("POST", "/generate", {}, {}, 422),
    ("POST", "/v1/images/generations", {}, {}, 422),
    ("POST", "/verify", {}, {}, 422),
    ("GET", "/livez", {"Cookie": "x" * 17_000}, None, 431),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), ANSWERS)
def test_an_answer_is_data_and_nothing_else_to_a_browser(
    guarded: Running,
    method: str,
    path: str,
    headers: dict[str, str],
    body: object,
    status: int,
) -> None:
    given = {"json": body} if body is not None else {}
    answer = guarded.client.request(method, path, headers=headers, **given)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert is_nothing(check(answer.headers))


def test_a_preflight_and_an_answer_that_has_not_changed_have_them(
    guarded: Running, exact: Running
) -> None:
    asked = {"Origin": FRIEND, "Access-Control-Request-Method": "POST"}
    preflight = guarded.client.options("/generate", headers=asked)
    assert preflight.status_code == 200
    check(preflight.headers)
    tag = exact.client.post("/generate", json=PICTURE).headers["ETag"]
    same = exact.client.post("/generate", json=PICTURE, headers={"If-None-Match": tag})
    assert same.status_code == 304
    check(same.headers)


def test_an_unexpected_error_has_them(failing: Running) -> None:
    answer = failing.client.post("/generate", json=PICTURE | {"seed": 666, "num_sampling_steps": 5})
    assert answer.status_code == 500
    assert is_nothing(check(answer.headers))


@pytest.mark.parametrize("path", ["/metrics", "/nothing"])
def test_the_metrics_port_has_them(guarded: Running, path: str) -> None:
    answer = httpx.get(f"{guarded.metrics_url}{path}", trust_env=False)
    assert is_nothing(check(answer.headers))


def test_what_the_connection_itself_refuses_has_them(guarded: Running) -> None:
    with connect(guarded, b"nonsense\r\n\r\n") as connection:
        head, _, _ = read_all(connection).partition(b"\r\n\r\n")
    status, *lines = head.decode().lower().split("\r\n")
    assert status == "http/1.1 400 bad request"
    assert is_nothing(check(dict(line.split(": ", 1) for line in lines)))


def directives(policy: str) -> dict[str, list[str]]:
    """The sources of each directive."""
    parts = (each.split() for each in policy.split(";"))
    return {name: sources for name, *sources in parts}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_runs_its_own_script_and_nothing_else(service: Running, path: str) -> None:
    answer = service.client.get(path, headers=HTML)
    assert answer.headers["Content-Type"].startswith("text/html")
    found = directives(check(answer.headers))
    script = found.get("script-src", found["default-src"])
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:", "data:", "blob:"} & set(script)
    assert found["form-action"] in (["'none'"], ["'self'"])


def test_the_policy_of_the_docs_names_the_hashes_of_its_script_and_style(service: Running) -> None:
    answer = service.client.get("/docs", headers=HTML)
    found = directives(answer.headers[POLICY])
    for name in ("script", "style"):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert found[f"{name}-src"] == [f"'sha256-{digest}'"]
    assert not re.search(r"<[^>]* (on\w+|style)=", answer.text)  # a policy of hashes blocks these
