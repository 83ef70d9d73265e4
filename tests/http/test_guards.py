"""Guards: what a request's head must be like, and which sites may send one."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.http.guards.hosts import default_names
from tests.support import raw
from tests.support.processes import PROCESS_S, answers, free_port, process
from tests.support.requests import PICTURE, send_bytes
from tests.support.services import Running, load_small_runner, running_service, wait_until

FRIEND = "https://app.example"
BODY = b'{"class_label": 1, "num_sampling_steps": 1}'


@pytest.fixture(scope="module")
def guarded(pipeline_folder: Path) -> Iterator[Running]:
    """A service with a name of its own, and one friendly site."""
    with running_service(
        lambda: load_small_runner(pipeline_folder),
        allowed_hosts=("dit.example", "*.dit.example"),
        cors_origins=(FRIEND,),
    ) as running:
        yield running


def post(service: Running, **headers: str) -> httpx.Response:
    """Each header's name with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post("/generate", content=BODY, headers=named)


def refusal(answer: httpx.Response, status: int) -> str:
    """The detail of an error in the form that all errors have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    return str(answer.json()["detail"])


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/vnd.example+json",
    ],
)
def test_json_by_any_name_is_read(service: Running, content_type: str) -> None:
    assert post(service, content_type=content_type).status_code == 200


def test_a_body_of_no_type_is_read(service: Running) -> None:
    assert send_bytes(service, BODY).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "image/png",
        "application/jsonp",
        "nonsense",
    ],
)
def test_a_body_of_another_type_is_refused(service: Running, content_type: str) -> None:
    answer = post(service, content_type=content_type)
    assert content_type in refusal(answer, 415)
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize("path", ["/generate", "/verify"])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "x-own", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_refused(service: Running, path: str, coding: str) -> None:
    answer = service.client.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": coding})
    assert coding in refusal(answer, 415)
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_an_uncompressed_body_may_be_called_so(service: Running, coding: str) -> None:
    assert post(service, content_type="application/json", content_encoding=coding).is_success


def test_a_head_of_usual_size_is_read(service: Running) -> None:
    assert service.client.get("/classes", headers={"Cookie": "x" * 15_000}).status_code == 200
    assert service.client.get("/classes", params={"x": "y" * 7_000}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "image/png," * 5_000},
        {"Cookie": "x" * 17_000},
        {f"x-{i}": "" for i in range(5_000)},
    ],
)
def test_large_headers_are_refused(service: Running, headers: dict[str, str]) -> None:
    answer = service.client.post("/generate", json=PICTURE, headers=headers)
    assert "16384" in refusal(answer, 431)


def test_a_head_that_arrives_in_parts_is_read_or_refused_as_one_that_does_not(
    service: Running,
) -> None:
    """The connection keeps what it has of a head, up to a limit of its own."""
    for size, status in ((15_000, b"200 OK"), (20_000, b"431 "), (60_000, b"431 ")):
        begun = b"GET /livez?" + b"y" * 7_000 + b" HTTP/1.1\r\nHost: x\r\nCookie: "
        end = b"\r\nConnection: close\r\n\r\n"
        parts = [b"x" * 5_000] * (size // 5_000)
        with raw.connect(service, begun) as connection:
            for part in (*parts, end):
                if select.select([connection], [], [], 0.02)[0]:
                    break  # the largest is refused before its end
                connection.send(part)
            assert raw.read_all(connection).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("target", ["/" + "x" * 8_000, "/classes?" + "a=&" * 5_000])
def test_a_long_target_is_refused(service: Running, target: str) -> None:
    assert "8000" in refusal(service.client.get(target), 414)


@pytest.mark.parametrize(
    "host",
    [
        "dit.example",
        "DIT.example:8000",
        "dit.example.",
        "a.b.dit.example",
        "localhost",
        "localhost:9000",
        "dit.localhost",
        "127.0.0.1:8000",
        "10.1.2.3",
        "[::1]:8000",
        "[fe80::1]",
    ],
)
def test_an_allowed_host_is_answered(guarded: Running, host: str) -> None:
    assert guarded.client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "xdit.example",
        "dit.example.evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[evil]",
    ],
)
@pytest.mark.parametrize("path", ["/livez", "/generate", "/docs", "/nothing"])
def test_another_host_is_misdirected(guarded: Running, host: str, path: str) -> None:
    answer = guarded.client.get(path, headers={"Host": host})
    detail = refusal(answer, 421)
    assert host in detail
    assert "DIT_ALLOWED_HOSTS" in detail


@pytest.mark.parametrize(
    ("listens_on", "names"),
    [
        ("127.0.0.1", ()),
        ("127.8.8.8", ()),
        ("::1", ()),
        ("localhost", ()),
        ("LOCALHOST", ()),
        ("0.0.0.0", ("*",)),
        ("::", ("*",)),
        ("10.0.0.7", ("*",)),
        ("dit.example", ("*",)),
    ],
)
def test_only_a_service_for_its_own_machine_is_strict_by_default(
    listens_on: str, names: tuple[str, ...]
) -> None:
    assert default_names(listens_on) == names


def test_the_settings_reach_the_guards(pipeline_folder: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"DIT_MODEL": str(pipeline_folder), "DIT_CORS_ORIGINS": FRIEND}
    with process(DIT_PORT=str(port), **settings):
        wait_until(lambda: answers(f"{url}/livez", 200), PROCESS_S)
        rebound = httpx.get(f"{url}/livez", headers={"Host": "evil.example"}, trust_env=False)
        assert rebound.status_code == 421
        friendly = httpx.get(f"{url}/livez", headers={"Origin": FRIEND}, trust_env=False)
        assert friendly.headers["Access-Control-Allow-Origin"] == FRIEND


OWN = {"Origin": "http://localhost:8000", "Host": "localhost:8000"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        OWN,
        {"Origin": "https://DIT.example", "Host": "dit.example"},
        {"Sec-Fetch-Site": "same-origin", **OWN},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Origin": FRIEND},
        {"Sec-Fetch-Site": "cross-site", "Origin": FRIEND},
    ],
)
def test_requests_of_own_and_friendly_pages_and_of_programs_are_answered(
    guarded: Running, headers: dict[str, str]
) -> None:
    assert guarded.client.post("/generate", json=PICTURE, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/generate", "/verify"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000", "Host": "localhost:8000"},
        {"Origin": "http://app.example"},  # not https
        {"Origin": "http://[", "Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site", **OWN},
    ],
)
def test_requests_of_other_pages_are_refused(
    guarded: Running, path: str, headers: dict[str, str]
) -> None:
    answer = guarded.client.post(path, content=BODY, headers=headers)
    assert "DIT_CORS_ORIGINS" in refusal(answer, 403)
    assert guarded.queue_row_steps == 0


def test_a_link_on_another_page_works(guarded: Running) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert guarded.client.get("/docs", headers=headers).status_code == 200


def preflight(service: Running, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-request-id,x-own",
    }
    return service.client.options("/generate", headers=headers)


def test_a_friendly_page_may_ask_and_read_every_header(guarded: Running) -> None:
    asked = preflight(guarded, FRIEND)
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert {"content-type", "x-request-id"} <= set(
        asked.headers["Access-Control-Allow-Headers"].split(",")
    )
    assert asked.headers["X-Request-Id"]
    answer = guarded.client.post("/generate", json=PICTURE, headers={"Origin": FRIEND})
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Origin" in answer.headers["Vary"]
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    own = {"ETag", "X-Request-Id", "X-Seed", "X-Class-Label", "Server-Timing", "Retry-After"}
    assert own <= exposed


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_friendly_page_can_read_errors(guarded: Running, method: str) -> None:
    answer = guarded.client.request(method, "/generate", headers={"Origin": FRIEND})
    assert answer.status_code in (405, 422)
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND


def test_other_pages_are_not_friendly(guarded: Running) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(guarded, "https://evil.example").headers
    answer = guarded.client.get("/classes", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_without_the_setting_no_page_of_another_site_is_friendly(service: Running) -> None:
    asked = preflight(service, FRIEND)
    assert asked.status_code == 204
    assert "Access-Control-Allow-Origin" not in asked.headers
    refusal(post(service, content_type="application/json", origin=FRIEND), 403)


def test_every_site_can_be_made_friendly(pipeline_folder: Path) -> None:
    with running_service(
        lambda: load_small_runner(pipeline_folder), cors_origins=("*",)
    ) as running:
        assert preflight(running, "https://any.example").status_code == 200
        headers = {"Origin": "https://any.example", "Sec-Fetch-Site": "cross-site"}
        answer = running.client.post("/generate", json=PICTURE, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


# Targets


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost:8000/livez", "localhost:8000", 200),
        ("HTTP://localhost/livez", "evil.example", 200),
        ("https://localhost/livez?x=http://evil.example/", "localhost", 200),
        ("http://dit.example/classes?q=a", "dit.example", 200),
        ("http://evil.example/livez", "localhost", 421),
        ("http://localhost@evil.example/livez", "localhost", 421),
        ("http://localhost/nothing", "localhost", 404),
        ("http://localhost", "localhost", 200),
        ("http:///livez", "localhost", 404),
        ("ftp://localhost/livez", "localhost", 404),
    ],
)
def test_the_host_of_an_absolute_target_stands_for_the_header(
    guarded: Running, target: str, host: str, status: int
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    with raw.connect(guarded, request.encode()) as connection:
        assert raw.read_all(connection).startswith(f"HTTP/1.1 {status} ".encode())


def test_an_absolute_target_reaches_its_route(service: Running) -> None:
    whole = raw.post(PICTURE, "Connection: close", path=f"{service.url}/generate")
    labels = {"route": "/generate", "outcome": "ok"}
    before = service.metric("dit_requests_total", **labels)
    with raw.connect(service, whole) as connection:
        assert raw.read_all(connection).startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: service.metric("dit_requests_total", **labels) == before + 1)


# Framing


@pytest.mark.parametrize("path", ["/generate", "/verify", "/nothing"])
@pytest.mark.parametrize(
    ("version", "header"),
    [
        ("1.1", "Content-Length: 3\r\nTransfer-Encoding: chunked"),
        ("1.1", "Transfer-Encoding: Chunked\r\nContent-Length: 99999999"),
        ("1.0", "Transfer-Encoding: chunked"),
    ],
)
def test_a_request_whose_end_is_not_clear_is_refused_and_the_connection_closed(
    service: Running, path: str, version: str, header: str
) -> None:
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\n{header}\r\n\r\n"
    chunks = b"2\r\n{}\r\n0\r\n\r\n"
    behind = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with raw.connect(service, head.encode() + chunks + behind) as connection:
        answer = raw.read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Transfer-Encoding" in answer.partition(b"\r\n\r\n")[2]


def test_chunks_alone_are_read(service: Running) -> None:
    head = "POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b'11\r\n{"class_label":0}\r\n0\r\n\r\n'
    with raw.connect(service, head.encode() + chunks) as connection:
        assert raw.read_all(connection).startswith(b"HTTP/1.1 200 ")
