"""Clients with keys: OpenAI's, ours in Python and on the command line, and the health check."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from openai import AuthenticationError, RateLimitError

from deploy.healthcheck import problem_at
from dit_client import Client, Done, Health, RateLimited, Retry, RetryPolicy, Unauthorized
from tests.support.keys import ALICE, BOB, bearer, key_ring
from tests.support.openai_client import FEW_STEPS, decoded, openai_client
from tests.support.services import Running, load_small_runner, running_service, wait_until

STEPS = {"num_sampling_steps": 2, "seed": 1}
SOON = "requests_per_minute=60"
"""A token comes every second, after the first 60."""


@pytest.fixture(scope="module")
def locked(pipeline_folder: Path) -> Iterator[Running]:
    """A service for alice, who may send one request a minute, and bob."""
    ring = key_ring(alice="requests_per_minute=1")
    with running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running:
        yield running


def test_openais_client_sends_its_key(locked: Running) -> None:
    with openai_client(locked, api_key=BOB) as client:
        assert [each.id for each in client.models.list()] == [locked.engine.model_info.name]
        answer = client.images.generate(prompt="pear", extra_body=FEW_STEPS)
        assert answer.data is not None
        assert decoded(answer.data[0].b64_json).startswith(b"\x89PNG")
        stream = client.images.generate(prompt="pear", stream=True, extra_body=FEW_STEPS)
        assert [event.type for event in stream] == ["image_generation.completed"]


def test_openais_client_says_that_a_key_is_wrong_and_does_not_try_again(locked: Running) -> None:
    before = locked.metric("dit_key_rejections_total", key="", reason="unknown")
    with openai_client(locked, api_key="wrong", max_retries=2) as client:
        with pytest.raises(AuthenticationError) as caught:
            client.images.generate(prompt="pear", extra_body=FEW_STEPS)
        assert caught.value.code == "invalid_api_key"
        assert caught.value.type == "invalid_request_error"
        assert caught.value.response.headers["WWW-Authenticate"].startswith("Bearer")
        with pytest.raises(AuthenticationError):
            client.models.list()

    def refused() -> float:
        return locked.metric("dit_key_rejections_total", key="", reason="unknown") - before

    wait_until(lambda: refused() == 2)


def test_openais_client_says_that_a_limit_is_reached(locked: Running) -> None:
    spend(locked)
    with openai_client(locked, api_key=ALICE) as client, pytest.raises(RateLimitError) as caught:
        client.images.generate(prompt="pear", extra_body=FEW_STEPS)
    assert caught.value.code == "rate_limit_exceeded"
    assert "requests_per_minute" in caught.value.message
    assert 50_000 < int(caught.value.response.headers["Retry-After-Ms"]) <= 60_000


def test_openais_client_waits_for_a_limit_as_told(pipeline_folder: Path) -> None:
    ring = key_ring(alice=SOON)
    with running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running:
        spend(running)
        with openai_client(running, api_key=ALICE, max_retries=2) as client:
            assert client.images.generate(prompt="pear", extra_body=FEW_STEPS).data


def spend(service: Running) -> None:
    """Use up what alice has left."""
    while service.client.post("/nothing", headers=bearer(ALICE)).status_code != 429:
        pass


def test_our_client_sends_its_key(locked: Running) -> None:
    with Client(locked.url, api_key=BOB) as client:
        made = client.generate("pear", num_sampling_steps=2, seed=1)
        assert made.image.data == generate_as_bob(locked)
        with client.stream("pear", num_sampling_steps=2) as events:
            assert isinstance(list(events)[-1], Done)
        assert client.verify(made.image.data).verified
        assert client.classes("pear")
        assert client.models()


def generate_as_bob(service: Running) -> bytes:
    body = {"class_label": "pear", **STEPS}
    return service.client.post("/generate", json=body, headers=bearer(BOB)).content


def test_our_client_says_that_a_key_is_wrong_or_missing(locked: Running) -> None:
    for key, reason in ((None, "an API key is needed"), ("wrong", "the API key is not valid")):
        with Client(locked.url, api_key=key) as client:
            with pytest.raises(Unauthorized, match=reason) as caught:
                client.generate("pear")
            assert caught.value.request_id
            assert isinstance(client.health(), Health)
            assert client.health().ready


def test_our_client_waits_for_a_limit_and_names_it(pipeline_folder: Path) -> None:
    told: list[Retry] = []
    ring = key_ring(alice=SOON)
    with (
        running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running,
        Client(running.url, api_key=ALICE, retries=RetryPolicy(on_retry=told.append)) as client,
    ):
        spend(running)
        assert client.generate("pear", num_sampling_steps=2).images
    limited = [each.error for each in told if isinstance(each.error, RateLimited)]
    assert len(limited) == len(told) >= 1
    assert limited[0].limit == "requests_per_minute"
    assert str(limited[0]) == "the key 'alice' may send 60 requests a minute (requests_per_minute)"


def test_the_command_line_takes_its_key_from_the_environment(
    locked: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "dit_client", "generate", "pear", "--steps", "2"]
    command += ["-o", str(tmp_path / "pear.png"), "--url", locked.url]
    monkeypatch.setenv("DIT_API_KEY", BOB)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pear.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.delenv("DIT_API_KEY")
    refused = subprocess.run([*command, "--force"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr == "dit: an API key is needed: send it as Authorization: Bearer KEY\n"


def test_the_health_check_needs_no_key(locked: Running) -> None:
    url = httpx.URL(locked.url)
    assert problem_at(url.host, url.port or 0) is None
    with closing(socket.create_server((url.host, 0))) as other:
        port = other.getsockname()[1]
    assert problem_at(url.host, port) is not None
