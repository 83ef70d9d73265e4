"""Errors as OpenAI's client raises them, and what it tries again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APITimeoutError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
    UnprocessableEntityError,
)
from structlog.testing import capture_logs

from model.runner.runner import ModelRunner
from service.http.connections.limits import ConnectionLimits
from tests.support.openai_client import FEW_STEPS, openai_client
from tests.support.raw import connect, post, read_all
from tests.support.requests import PICTURE, gated_service, generate
from tests.support.services import (
    LIMITS,
    PATIENCE_S,
    GatedRunner,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
    wait_until,
)

ROUTE = "/v1/images/generations"
BODY = {"prompt": "pear", **FEW_STEPS}


def refused(client: OpenAI, **fields: Any) -> UnprocessableEntityError:
    with pytest.raises(UnprocessableEntityError) as caught:
        client.images.generate(**{"prompt": "pear", **fields})
    assert caught.value.type == "invalid_request_error"
    assert caught.value.code == "invalid_request"
    return caught.value


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"n": 17}, "n: must be an integer from 1 to 16"),
        ({"n": 0}, "n: must be an integer from 1 to the server's limit"),
        ({"size": "1024x1024"}, "size: must be auto or 8x8, the size of this model's pictures"),
        ({"quality": "max"}, "quality: must be auto, low, medium, high, standard or hd"),
        ({"response_format": "url"}, "not kept for a url to lead to"),
        ({"background": "transparent"}, "the model has no transparency"),
        ({"moderation": "high"}, "moderation: must be auto or low"),
        ({"style": "vivid"}, "style: must be auto or absent: the model has no styles"),
        ({"output_format": "gif"}, "output_format: must be png, webp or jpeg"),
        ({"output_compression": 101}, "output_compression: must be an integer from 0 to 100"),
        ({"output_compression": 50}, "png has no loss; webp and jpeg take 0 to 100"),
        ({"partial_images": 4}, "partial_images: must be an integer from 0 to 3"),
        ({"stream": "yes"}, "stream: must be a valid boolean"),
        ({"prompt": "99"}, "prompt: must be an integer from 0 to 4, or a class name"),
        ({"prompt": 3}, "prompt: must be a class name, synonym or id"),
        ({"complexity": "high"}, "complexity: is not a field of this request"),
    ],
)
def test_what_the_model_does_not_have_is_refused_with_the_reason(
    client: OpenAI, fields: dict[str, Any], reason: str
) -> None:
    error = refused(client, **fields)
    assert reason in error.message
    assert error.param == next(iter(fields))


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"cfg_scale": 21}, "cfg_scale"),
        ({"guidance_scale": 0.5}, "guidance_scale"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"sampler": "euler"}, "sampler"),
        ({"seed": -1}, "seed"),
        ({"guidance_interval": [1, 0]}, "guidance_interval"),
        ({"timeout_s": 301}, "timeout_s"),
        ({"class_label": 5}, "class_label"),
        ({"class_label": 1, "class_id": 1}, "class_id"),
        ({"num_images": 2}, "num_images"),
        ({"preview_every": 1}, "preview_every"),
        ({"size_": "8x8"}, "size_"),
    ],
)
def test_fields_beside_openais_are_checked_as_those_of_generate(
    client: OpenAI, extra: dict[str, Any], param: str
) -> None:
    assert refused(client, extra_body=extra).param == param


def test_every_wrong_field_is_named(client: OpenAI) -> None:
    error = refused(client, n=0, style="vivid", extra_body={"seed": -1, "colour": "red"})
    assert isinstance(error.body, dict)
    assert {each["field"] for each in error.body["errors"]} == {"n", "style", "seed", "colour"}
    allowed = next(each["allowed"] for each in error.body["errors"] if each["field"] == "colour")
    assert {"prompt", "partial_images"} <= set(allowed.split(", "))
    assert allowed.endswith(", or one of POST /generate")


def test_an_unknown_class_is_answered_with_the_nearest_names(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.images.generate(prompt="a photo of an apple tree")
    error = caught.value
    assert (error.code, error.param) == ("unknown_class", "prompt")
    assert "the nearest names are apple" in error.message
    assert isinstance(error.body, dict)
    assert error.body["nearest"][0] == "apple"
    with pytest.raises(NotFoundError) as caught:
        client.images.generate(prompt="pear", extra_body={"class_label": "aple"})
    assert caught.value.param == "class_label"


def test_a_prompt_as_long_as_openai_allows_is_an_unknown_class(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="the nearest names are damson plum"):
        client.images.generate(prompt="damson plum, oil on canvas, " * 1142)


def test_another_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.images.generate(prompt="pear", model="dall-e-3")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_an_error_has_the_requests_id(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.images.generate(prompt="aple", extra_headers={"X-Request-Id": "mine"})
    assert caught.value.request_id == "mine"


def outcomes(running: Running, outcome: str) -> float:
    return running.metric("dit_requests_total", route=ROUTE, outcome=outcome)


def test_a_full_queue_is_tried_again_when_there_may_be_room(pipeline_folder: Path) -> None:
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_queue_row_steps=4) as (running, runner),
        openai_client(running) as once,
        openai_client(running, max_retries=4) as patient,
    ):
        first = pool.submit(generate, running, PICTURE)
        wait_until(lambda: running.queue_row_steps == 4)
        with pytest.raises(RateLimitError) as caught:
            once.images.generate(prompt="pear", extra_body=FEW_STEPS)
        error = caught.value
        assert (error.code, error.type) == ("queue_full", "rate_limit_error")
        wait_ms = int(error.response.headers["Retry-After-Ms"])
        assert 100 <= wait_ms <= 1000 * int(error.response.headers["Retry-After"])
        second = pool.submit(lambda: patient.images.generate(prompt="pear", extra_body=FEW_STEPS))
        wait_until(lambda: outcomes(running, "full") >= 2)
        runner.open()
        assert first.result().status_code == 200
        assert second.result().data
        assert outcomes(running, "ok") == 1


def test_a_deadline_is_not_tried_again(pipeline_folder: Path) -> None:
    with (
        gated_service(pipeline_folder) as (running, runner),
        openai_client(running, max_retries=2) as client,
    ):

        def open_late() -> None:
            wait_until(lambda: running.queue_row_steps > 0)
            time.sleep(0.3)
            runner.open()

        threading.Thread(target=open_late).start()
        with pytest.raises(InternalServerError) as caught:
            client.images.generate(prompt="pear", extra_body={**FEW_STEPS, "timeout_s": 0.2})
        assert caught.value.status_code == 504
        assert caught.value.code in ("deadline_passed", "deadline_impossible")
        assert caught.value.type == "server_error"
        assert caught.value.response.headers["X-Should-Retry"] == "false"
        assert outcomes(running, "timeout") + outcomes(running, "impossible") == 1


def test_a_client_that_does_not_wait_frees_its_rows(pipeline_folder: Path) -> None:
    with (
        gated_service(pipeline_folder) as (running, runner),
        openai_client(running, timeout_s=1.2) as client,
    ):
        with pytest.raises(APITimeoutError):
            client.images.generate(prompt="pear", extra_body={"num_inference_steps": 1000})
        wait_until(lambda: outcomes(running, "cancelled") == 1)
        runner.let(2)
        wait_until(lambda: running.queue_row_steps == 0)


def error_in(content: bytes) -> Mapping[str, object]:
    """The one member of an error in OpenAI's form."""
    (name, error), *others = json.loads(content).items()
    assert (name, others) == ("error", [])
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    assert isinstance(error, dict)
    return error


@pytest.fixture(scope="module")
def strict(pipeline_folder: Path) -> Iterator[Running]:
    """A service with a name of its own, for small bodies."""
    with running_service(
        lambda: load_small_runner(pipeline_folder),
        allowed_hosts=("dit.example",),
        max_body_bytes=1024,
        limits=replace(LIMITS, max_images=2),
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "code"),
    [
        ("POST", ROUTE, {"Sec-Fetch-Site": "cross-site"}, b"{}", 403, "cross_site_request"),
        ("GET", "/v1", {}, b"", 404, "not_found"),
        ("GET", "/v1/", {}, b"", 404, "not_found"),
        ("POST", "/v1/chat/completions", {}, b"{}", 404, "not_found"),
        ("POST", "/v1/images/edits", {}, b"{}", 404, "not_found"),
        ("GET", "/v1/models/a/b", {}, b"", 404, "model_not_found"),
        ("GET", ROUTE, {}, b"", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/pipeline0", {}, b"", 405, "method_not_allowed"),
        ("POST", ROUTE, {"Accept": "image/png"}, b'{"prompt":"1"}', 406, "not_acceptable"),
        ("POST", ROUTE, {"Content-Type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
        ("POST", ROUTE, {"Content-Encoding": "gzip"}, b"{}", 415, "unsupported_media_type"),
        ("POST", ROUTE, {}, b" " * 1025, 413, "body_too_large"),
        ("GET", f"/v1/models?{'x' * 8000}", {}, b"", 414, "target_too_long"),
        ("POST", ROUTE, {"Host": "evil.example"}, b"{}", 421, "misdirected_request"),
        ("POST", ROUTE, {}, b"", 422, "invalid_request"),
        ("POST", ROUTE, {}, b"[]", 422, "invalid_request"),
        ("POST", ROUTE, {}, b"{}", 422, "invalid_request"),
        ("POST", ROUTE, {}, b'{"prompt":"1","prompt":"2"}', 422, "invalid_request"),
        ("POST", ROUTE, {}, b'{"prompt":"\xff"}', 422, "invalid_request"),
        ("POST", ROUTE, {"X-Long": "x" * 17_000}, b"{}", 431, "headers_too_large"),
    ],
)
def test_every_error_below_v1_has_openais_form(
    strict: Running,
    method: str,
    path: str,
    headers: Mapping[str, str],
    content: bytes,
    status: int,
    code: str,
) -> None:
    answer = strict.client.request(method, path, headers=headers, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    error = error_in(answer.content)
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


@pytest.mark.parametrize("path", ["/generate", "/v2", "/v11", "/x/v1/models", "/v1x"])
def test_errors_elsewhere_are_problems(strict: Running, path: str) -> None:
    answer = strict.client.post(path, json={})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "error" not in answer.json()


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "application/*", "text/event-stream"]
)
def test_a_stream_is_sent_to_whoever_accepts_json_or_events(strict: Running, accept: str) -> None:
    body = BODY | {"stream": True}
    answer = strict.client.post(ROUTE, json=body, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"


def test_events_are_not_sent_to_whoever_did_not_ask_to_stream(strict: Running) -> None:
    answer = strict.client.post(ROUTE, json=BODY, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 406
    assert "application/json" in str(error_in(answer.content)["message"])


def test_a_service_that_starts_is_tried_again(pipeline_folder: Path) -> None:
    may_load = threading.Event()

    def load() -> ModelRunner:
        assert may_load.wait(PATIENCE_S)
        return load_small_runner(pipeline_folder)

    with running_service(load, wait_ready=False) as running:
        for answer in (running.client.get("/v1/models"), running.client.post(ROUTE, json=BODY)):
            assert answer.status_code == 503
            assert error_in(answer.content)["code"] == "unavailable"
            assert answer.headers["Retry-After-Ms"] == "5000"
        may_load.set()
        wait_until(lambda: running.engine.ready)


def test_too_many_connections_are_refused_in_openais_form(pipeline_folder: Path) -> None:
    runner = GatedRunner(load_small_checkpoint(pipeline_folder))
    few = ConnectionLimits(max_connections=2)
    with running_service(lambda: runner, connection_limits=few) as running, ExitStack() as stack:
        runner.close()
        for _ in range(2):
            stack.enter_context(connect(running, post()))
        wait_until(lambda: running.queue_row_steps == 8)
        answer = running.client.get("/v1/models")
        assert answer.status_code == 503
        assert "too many connections" in str(error_in(answer.content)["message"])
        runner.open()


def test_a_body_that_does_not_arrive_is_answered_in_openais_form(pipeline_folder: Path) -> None:
    hasty = ConnectionLimits(body_s=0.2)
    with (
        running_service(
            lambda: load_small_runner(pipeline_folder), connection_limits=hasty
        ) as running,
        connect(running, post(BODY, path=ROUTE)[:-1]) as connection,
    ):
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert error_in(body)["code"] == "request_timeout"


def test_an_unexpected_error_is_answered_in_openais_form(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(job: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(service.engine, "submit", broken)
    with capture_logs():  # to write a traceback with every local variable takes seconds
        answer = service.client.post(ROUTE, json=BODY)
    assert answer.status_code == 500
    assert error_in(answer.content)["type"] == "server_error"
    assert "injected" not in answer.text


def test_options_below_v1_list_the_methods(service: Running) -> None:
    answer = service.client.options(ROUTE)
    assert (answer.status_code, answer.headers["Allow"]) == (204, "OPTIONS, POST")
