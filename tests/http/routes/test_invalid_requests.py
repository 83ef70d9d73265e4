"""Invalid requests: each answer says what is wrong, and the service stays healthy."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.images.request import GenerateRequest
from tests.support.checkpoints import edit_json, write_pipeline
from tests.support.requests import PICTURE, RawAnswer, generate, picture, send_bytes
from tests.support.services import Running, load_small_runner, running_service, wait_until

SEEDS = "an integer from 0 to 9223372036854775807"
SCALES = "a number from 1.0 to 20.0"
STEPS = "an integer from 1 to 1000"
PREVIEWS = "an integer from 0 (none) to 1000"
IDS = "an integer from 0 to 4, or a class name"
LABELS = "a class id, or a class name, see /classes"
LIMIT_HERE = "the server's limit, see /models"


def problem(answer: RawAnswer, status: int) -> dict[str, object]:
    """The members of an error answer, after checking the form that all errors have."""
    assert answer.status == status, answer.content
    assert answer.headers["content-type"] == "application/problem+json"
    described = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= described.keys()
    assert described["status"] == status
    assert described["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in str(described["detail"])
    return described


def only_error(answer: RawAnswer) -> dict[str, object]:
    errors = problem(answer, 422)["errors"]
    assert isinstance(errors, list)
    assert len(errors) == 1
    error = errors[0]
    assert isinstance(error, dict)
    assert error.keys() == {"field", "message", "value", "allowed"}
    return error


@pytest.mark.parametrize(
    ("body", "field", "value", "allowed"),
    [
        (b'{"class_label":0,"cfg_scale":NaN}', "cfg_scale", "nan", SCALES),
        (b'{"class_label":0,"cfg_scale":Infinity}', "cfg_scale", "inf", SCALES),
        (b'{"class_label":0,"cfg_scale":-Infinity}', "cfg_scale", "-inf", SCALES),
        (b'{"class_label":0,"cfg_scale":1e400}', "cfg_scale", "inf", SCALES),
        (b'{"class_label":0,"cfg_scale":true}', "cfg_scale", True, SCALES),
        (b'{"class_label":0,"cfg_scale":"2"}', "cfg_scale", "2", SCALES),
        (b'{"class_label":0,"cfg_scale":0.999}', "cfg_scale", 0.999, SCALES),
        (b'{"class_label":0,"guidance_scale":20.001}', "guidance_scale", 20.001, SCALES),
        (b'{"class_label":0,"cfg_scale":' + b"9" * 5000 + b"}", "cfg_scale", "inf", SCALES),
        (b'{"class_label":0,"seed":true}', "seed", True, SEEDS),
        (b'{"class_label":0,"seed":-1}', "seed", -1, SEEDS),
        (b'{"class_label":0,"seed":9223372036854775808}', "seed", 2**63, SEEDS),
        (b'{"class_label":0,"seed":1.5}', "seed", 1.5, SEEDS),
        (b'{"class_label":0,"seed":NaN}', "seed", "nan", SEEDS),
        (b'{"class_label":0,"seed":' + b"9" * 5000 + b"}", "seed", "inf", SEEDS),
        (b'{"class_label":0,"num_sampling_steps":0}', "num_sampling_steps", 0, STEPS),
        (b'{"class_label":0,"num_inference_steps":1001}', "num_inference_steps", 1001, STEPS),
        (b'{"class_label":0,"seed":' + b"9" * 310 + b"}", "seed", "inf", SEEDS),
        (b'{"class_label":0,"num_images":17}', "num_images", 17, "an integer from 1 to 16"),
        (
            b'{"class_label":0,"num_images":0}',
            "num_images",
            0,
            "an integer from 1 to " + LIMIT_HERE,
        ),
        (b'{"class_label":0,"timeout_s":0}', "timeout_s", 0, "more than 0, at most " + LIMIT_HERE),
        (b'{"class_label":0,"preview_every":-1}', "preview_every", -1, PREVIEWS),
        (b'{"class_label":0,"preview_every":1001}', "preview_every", 1001, PREVIEWS),
        (b'{"class_label":0,"timeout_s":301}', "timeout_s", 301.0, "more than 0, at most 300"),
        (
            b'{"class_label":0,"sampler":"euler"}',
            "sampler",
            "euler",
            "ddim, ddpm, dpmpp_2m, fitted or ns",
        ),
        (b'{"class_label":0,"output_format":"gif"}', "output_format", "gif", "png, webp or jpeg"),
        (b'{"class_label":5}', "class_label", 5, IDS),
        (b'{"class_label":"5"}', "class_label", 5, IDS),
        (b'{"class_label":-1}', "class_label", -1, IDS),
        (b'{"class_label":true}', "class_label", True, LABELS),
        (b'{"class_label":null}', "class_label", None, LABELS),
        (b'{"class_label":NaN}', "class_label", "nan", LABELS),
        (b'{"class_label":' + b"9" * 5000 + b"}", "class_label", "inf", LABELS),
        (b'{"class_label":"\\ud800"}', "class_label", "\\ud800", LABELS),
        (b'{"class_label":"' + b"x" * 201 + b'"}', "class_label", "x" * 200 + "\u2026", LABELS),
        (b'{"class_label":["pear"]}', "class_label", "['pear']", LABELS),
        (b"{}", "class_label", None, LABELS),
        (b'{"class_id":null}', "class_label", None, LABELS),
    ],
)
def test_a_wrong_field_is_reported_with_its_value_and_range(
    service: Running, body: bytes, field: str, value: object, allowed: str
) -> None:
    error = only_error(send_bytes(service, body))
    assert (error["field"], error["value"], error["allowed"]) == (field, value, allowed)
    assert type(error["value"]) is type(value)  # True is not 1
    assert str(allowed) in str(error["message"])


@pytest.mark.parametrize(
    "interval",
    ["[0.5, 0.2]", "[0, 1.1]", "[-0.1, 1]", "[0, NaN]", "[0]", "[0,1,1]", "[0,true]", "1"],
)
def test_a_wrong_guidance_interval(service: Running, interval: str) -> None:
    body = f'{{"class_label":0,"guidance_interval":{interval}}}'.encode()
    error = only_error(send_bytes(service, body))
    assert error["field"] == "guidance_interval"
    assert error["message"] == "must be [low, high] with 0 <= low <= high <= 1"


def test_null_is_the_same_as_absent(service: Running) -> None:
    names = set(GenerateRequest.model_fields) | {"guidance_scale", "num_inference_steps"}
    unset = dict.fromkeys(names - {"class_label"}) | {"class_id": None}
    given = PICTURE | {"guidance_scale": 2.0}
    answers = [generate(service, body) for body in (given, unset | given)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].headers["ETag"] == answers[1].headers["ETag"]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b'{"class_label":0,"steps":5}', "steps", "is not a field of this request"),
        (b'{"class_label":0,"steps":null}', "steps", "is not a field of this request"),
        (b'{"class_label":0,"":5}', "", "is not a field of this request"),
        (b'{"class_label":0,"\\udfff":5}', "\\udfff", "is not a field of this request"),
        (b'{"class_label":0,"zz":NaN}', "zz", "is not a field of this request"),
        (b'{"class_label":0,"' + b"y" * 999 + b'":1}', "y" * 200 + "\u2026", "is not a field"),
        (b'{"class_label":0,"class_id":0}', "class_id", "duplicates class_label"),
        (
            b'{"class_label":0,"cfg_scale":2,"guidance_scale":2}',
            "guidance_scale",
            "duplicates cfg_scale",
        ),
        (b'{"class_label":0,"class_label":1}', "class_label", "more than once"),
        (b'{"class_label":0,"zz":{"a":1,"a":2}}', "a", "more than once"),
    ],
)
def test_an_unknown_or_repeated_field(
    service: Running, body: bytes, field: str, message: str
) -> None:
    error = only_error(send_bytes(service, body))
    assert error["field"] == field
    assert message in str(error["message"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b"null", "not an object"),
        (b"[]", "not an object"),
        (b'"pear"', "not an object"),
        (b"NaN", "not an object"),
        (b"{", "line 1 column 2"),
        (b'{"class_label":0}x', "line 1 column 18"),
        (b"{'class_label':0}", "line 1 column 2"),
        (b'{"class_label":0x10}', "line 1 column 17"),
        (b"class_label=1&seed=2", "line 1 column 1"),
        (b'{"class_label":"\x00"}', "(Invalid control character at line 1 column 17)"),
        (b'{"class_label', "(Unterminated string starting at line 1 column 2)"),
        (b'{"class_label":"\\q"}', "(Invalid \\escape at line 1 column 17)"),
        (b'{"class_label":}', "(Expecting value at line 1 column 16)"),
        (b'{"class_label":"\xff"}', "byte 16 is not UTF-8"),
        (b'{"class_label":"\xed\xa0\x80"}', "byte 16 is not UTF-8"),
        ('{"class_label":0}'.encode("utf-16"), "byte 0 is not UTF-8"),
        ('{"class_label":0}'.encode("utf-16-be"), "line 1 column 1"),
        (b"[" * 30_000, "nested too deeply"),
        (b'{"class_label":' + b'{"a":' * 10_000 + b"}", "nested too deeply"),
    ],
)
def test_a_body_that_is_not_a_json_object(service: Running, body: bytes, reason: str) -> None:
    error = only_error(send_bytes(service, body))
    assert error["field"] == "body"
    assert reason in str(error["message"])


@pytest.mark.parametrize("depth", [300, 600, 900])
@pytest.mark.parametrize("field", ["class_label", "guidance_interval", "unknown"])
def test_nesting_that_the_parser_can_handle_is_a_wrong_value(
    service: Running, field: str, depth: int
) -> None:
    others = b'"class_label":0,' if field != "class_label" else b""
    body = b"{%s" % others + f'"{field}":'.encode() + b"[" * depth + b"]" * depth + b"}"
    assert only_error(send_bytes(service, body))["field"] in (field, "body")


def test_an_unknown_field_is_answered_with_the_known_ones(service: Running) -> None:
    error = only_error(send_bytes(service, b'{"class_label":0,"steps":5}'))
    assert str(error["allowed"]).split(", ") == list(GenerateRequest.model_fields)


def test_a_byte_order_mark_is_accepted(service: Running) -> None:
    answer = send_bytes(service, b"\xef\xbb\xbf" + json.dumps(PICTURE).encode())
    assert answer.status == 200
    assert answer.content == generate(service, PICTURE).content


def test_all_wrong_fields_are_reported_at_once(service: Running) -> None:
    answer = send_bytes(service, b'{"seed":-1,"cfg_scale":99,"huh":1}')
    errors = problem(answer, 422)["errors"]
    assert isinstance(errors, list)
    assert {error["field"] for error in errors} == {"class_label", "seed", "cfg_scale", "huh"}
    detail = str(problem(answer, 422)["detail"])
    assert all(name in detail for name in ("class_label", "seed", "cfg_scale", "huh"))


def test_the_answer_to_thousands_of_wrong_fields_is_short(service: Running) -> None:
    body = json.dumps({f"f{i}": 0 for i in range(4000)}).encode()
    answer = send_bytes(service, body)
    assert problem(answer, 422)["title"] == "Invalid request"
    assert len(answer.content) < 10_000


def test_an_unknown_class_is_answered_with_the_nearest_names(service: Running) -> None:
    described = problem(send_bytes(service, b'{"class_label":"aple"}'), 404)
    assert described["title"] == "Unknown class"
    assert described["nearest"] == ["apple", "plum", "pear"]
    assert "apple, plum, pear" in str(described["detail"])


def test_an_unknown_class_without_similar_names_is_referred_to_the_list(service: Running) -> None:
    described = problem(send_bytes(service, b'{"class_label":"zzzz"}'), 404)
    assert described["nearest"] == []
    assert "/classes" in str(described["detail"])


def test_a_deadline_that_cannot_be_met_is_refused_at_once(service: Running) -> None:
    body = b'{"class_label":0,"num_sampling_steps":1000,"num_images":16,"timeout_s":1e-6}'
    assert "deadline" in str(problem(send_bytes(service, body), 504)["type"])
    assert service.queue_row_steps == 0


def test_a_query_that_is_too_long_is_a_problem(service: Running) -> None:
    answer = service.client.get("/classes", params={"q": "x" * 201})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == "q"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/generate", 405),
        ("DELETE", "/generate", 405),
        ("POST", "/classes", 405),
        ("GET", "/nothing", 404),
        ("GET", "/%0Aline%20two", 404),
        ("GET", "/" + "x" * 5000, 404),
    ],
)
def test_a_wrong_path_or_method(service: Running, method: str, path: str, status: int) -> None:
    answer = service.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert len(answer.content) < 1000
    if status == 405:
        assert answer.headers["Allow"]


LIMIT = 65_536


def padded(size: int) -> bytes:
    """A valid body of exactly this many bytes."""
    body = json.dumps(PICTURE).encode()
    return body + b" " * (size - len(body))


def chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def test_the_body_limit_is_exact(service: Running) -> None:
    assert send_bytes(service, padded(LIMIT)).status == 200
    assert send_bytes(service, chunks(padded(LIMIT))).status == 200
    for body in (padded(LIMIT + 1), chunks(padded(LIMIT + 1))):
        described = problem(send_bytes(service, body), 413)
        assert str(LIMIT) in str(described["detail"])


def test_a_body_far_too_large_is_answered_rather_than_cut_off(service: Running) -> None:
    assert problem(send_bytes(service, padded(5_000_000)), 413)
    assert problem(send_bytes(service, chunks(padded(5_000_000))), 413)


def open_request(service: Running, head: str) -> socket.socket:
    """A connection on which the head of a request has been sent."""
    url = httpx.URL(service.url)
    assert url.port is not None
    connection = socket.create_connection((url.host, url.port), timeout=30)
    connection.sendall(f"POST /generate HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n".encode())
    return connection


def test_a_body_is_refused_by_its_announced_size(service: Running) -> None:
    with open_request(service, "Expect: 100-continue\r\nContent-Length: 999999999") as connection:
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_leaves_while_sending_counts_as_cancelled(service: Running) -> None:
    labels = {"route": "/generate", "outcome": "cancelled"}
    before = service.metric("dit_requests_total", **labels)
    with open_request(service, "Content-Length: 100") as connection:
        connection.sendall(b'{"class')
    wait_until(lambda: service.metric("dit_requests_total", **labels) == before + 1)


def test_a_model_with_fewer_timesteps_allows_fewer_steps(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "pipeline")
    edit_json(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=500)
    with running_service(lambda: load_small_runner(folder)) as running:
        error = only_error(send_bytes(running, b'{"class_label":0,"num_sampling_steps":501}'))
        assert (error["field"], error["allowed"]) == (
            "num_sampling_steps",
            "an integer from 1 to 500",
        )
        limits = running.client.get("/models").json()["data"][0]["limits"]
        assert limits["num_sampling_steps"] == [1, 500]


names = st.sampled_from(
    [
        "class_label",
        "class_id",
        "cfg_scale",
        "guidance_scale",
        "num_sampling_steps",
        "num_inference_steps",
        "sampler",
        "seed",
        "num_images",
        "guidance_interval",
        "output_format",
        "preview_every",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 6)
    | st.integers()
    | st.floats()
    | st.sampled_from(["pear", "ddim", "ddpm", "png", "jpeg", "1", "\ud800", "\x00"])
    | st.text(st.characters(exclude_categories=()), max_size=8)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
objects = st.dictionaries(names | st.text(max_size=5), values, max_size=5)
plausible = objects.map(lambda each: {"class_label": 0} | each | {"num_sampling_steps": 1})
bodies = objects.map(json.dumps) | plausible.map(json.dumps) | st.text()


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary())
def test_any_body_is_answered(service: Running, body: bytes) -> None:
    answer = service.client.post("/generate", content=body)
    if answer.status_code != 200:
        assert answer.status_code in (404, 422)
        raw = RawAnswer(answer.status_code, answer.headers, answer.content)
        problem(raw, answer.status_code)


def test_afterwards_the_service_is_healthy(service: Running) -> None:
    assert service.client.get("/readyz").status_code == 200
    assert service.queue_row_steps == 0
    assert picture(generate(service, PICTURE)).size == (8, 8)
    assert service.metric("dit_requests_total", route="/generate", outcome="failed") == 0
