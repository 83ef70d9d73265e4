"""Methods: HEAD wherever GET is, OPTIONS everywhere, and no redirects."""

from __future__ import annotations

import pytest

from tests.support.raw import connect, read_all
from tests.support.requests import PICTURE
from tests.support.services import Running, wait_until

GETS = ["/livez", "/readyz", "/metrics", "/classes", "/models", "/v1/models", "/docs"]
GETS += ["/openapi.json", "/classes?q=apple", "/nothing"]
VARYING = {"server-timing", "x-request-id", "date"}


@pytest.mark.parametrize("path", GETS)
def test_head_has_the_headers_of_get_and_no_body(service: Running, path: str) -> None:
    get, head = (service.client.request(method, path) for method in ("GET", "HEAD"))
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers.keys() == get.headers.keys()
    if path != "/metrics":  # they count the requests, too
        same = get.headers.keys() - VARYING
        if get.status_code != 200:  # a problem holds the request's id
            same -= {"content-length"}
        assert {name: head.headers[name] for name in same} == {
            name: get.headers[name] for name in same
        }


def test_head_counts_for_the_route(service: Running) -> None:
    labels = {"route": "/classes", "outcome": "ok"}
    before = service.metric("dit_requests_total", **labels)
    service.client.head("/classes")
    wait_until(lambda: service.metric("dit_requests_total", **labels) == before + 1)


def test_head_of_a_wrong_request_is_its_error(service: Running) -> None:
    assert service.client.head("/classes", params={"q": "x" * 201}).status_code == 422
    assert service.client.head("/generate").status_code == 405


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/generate", "OPTIONS, POST"),
        ("/verify", "OPTIONS, POST"),
    ],
)
def test_options_and_405_name_the_methods_of_a_path(
    service: Running, path: str, allowed: str
) -> None:
    options = service.client.options(path)
    assert (options.status_code, options.content) == (204, b"")
    refused = service.client.delete(path)
    assert refused.status_code == 405
    kind = "application/json" if path.startswith("/v1/") else "application/problem+json"
    assert refused.headers["Content-Type"] == kind
    assert options.headers["Allow"] == refused.headers["Allow"] == allowed


@pytest.mark.parametrize("target", ["*", "http://x", "http://x:80"])
def test_options_of_the_whole_service_name_every_method(service: Running, target: str) -> None:
    request = f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(service, request.encode()) as connection:
        head = read_all(connection).lower()
    assert head.startswith(b"http/1.1 204 ")
    assert b"\r\nallow: get, head, options, post\r\n" in head


def test_options_of_an_unknown_path_is_404(service: Running) -> None:
    assert service.client.options("/nothing").status_code == 404


@pytest.mark.parametrize("path", ["/generate/", "/verify/", "/classes/", "/livez/", "/docs/", "//"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_path_with_another_slash_is_unknown_rather_than_redirected(
    service: Running, method: str, path: str
) -> None:
    answer = service.client.request(method, f"{service.url}{path}", json=PICTURE)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "Location" not in answer.headers
    if method != "HEAD":
        assert f"{method} {path}" in answer.json()["detail"]
