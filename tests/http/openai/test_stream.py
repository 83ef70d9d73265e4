"""OpenAI's client streams: previews, then the finished pictures, or an error."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import APIError, OpenAI
from openai.types import (
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImageGenStreamEvent,
)
from PIL import Image

from service.http.openai import answers
from service.scheduling.jobs import even_steps
from tests.support.openai_client import FEW_STEPS, async_openai_client, decoded, openai_client
from tests.support.requests import PICTURE, gated_service, generate, images_of
from tests.support.services import Running, wait_until

ROUTE = "/v1/images/generations"
EIGHT_STEPS = {"seed": 1, "num_inference_steps": 8, "sampler": "ddpm", "cfg_scale": 4.0}


def streamed(
    client: OpenAI,
    *,
    partial_images: int | None = None,
    extra_body: Mapping[str, Any] = FEW_STEPS,
    **more: Any,
) -> list[ImageGenStreamEvent]:
    with client.images.generate(
        prompt="pear",
        stream=True,
        partial_images=partial_images,
        extra_body=extra_body,
        **more,
    ) as events:
        return list(events)


def previews(events: Sequence[ImageGenStreamEvent]) -> list[ImageGenPartialImageEvent]:
    return [each for each in events if isinstance(each, ImageGenPartialImageEvent)]


def completed(events: Sequence[ImageGenStreamEvent]) -> list[ImageGenCompletedEvent]:
    return [each for each in events if isinstance(each, ImageGenCompletedEvent)]


def test_a_streamed_picture_is_the_one_that_generate_makes(
    service: Running, client: OpenAI
) -> None:
    (event,) = streamed(client)
    assert isinstance(event, ImageGenCompletedEvent)
    assert event.type == "image_generation.completed"
    assert decoded(event.b64_json) == generate(service, PICTURE).content
    assert (event.size, event.background, event.output_format) == ("8x8", "opaque", "png")
    assert event.quality == "auto"  # steps were named
    assert abs(event.created_at - time.time()) < 60
    assert (event.usage.input_tokens, event.usage.output_tokens) == (1, 4)
    assert event.usage.total_tokens == 5
    more = event.model_extra or {}
    assert (more["seed"], more["index"], more["parameters"]["class_name"]) == (1, 0, "pear")


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [
        (50, 0, []),
        (50, 1, [25]),
        (50, 2, [17, 33]),
        (50, 3, [13, 25, 38]),
        (8, 3, [2, 4, 6]),
        (5, 3, [1, 3, 4]),
        (4, 3, [1, 2, 3]),
        (3, 3, [1, 2]),  # there are no more before the last
        (2, 3, [1]),
        (1, 3, []),
    ],
)
def test_steps_are_even(steps: int, count: int, expected: list[int]) -> None:
    assert sorted(even_steps(steps, count)) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_there_are_as_many_previews_as_were_asked_for(pipeline_folder: Path, count: int) -> None:
    with gated_service(pipeline_folder) as (running, runner), openai_client(running) as client:
        due = even_steps(8, count)
        received: list[ImageGenStreamEvent] = []
        with client.images.generate(
            prompt="pear",
            stream=True,
            partial_images=count,
            extra_body=EIGHT_STEPS,
        ) as events:
            for step in range(1, 9):
                runner.let(1)
                received += [next(events) for _ in range(step in due)]
            received += list(events)
    shown = previews(received)
    assert [each.partial_image_index for each in shown] == list(range(count))
    assert [each.type for each in shown] == ["image_generation.partial_image"] * count
    files = [each.b64_json for each in shown] + [each.b64_json for each in completed(received)]
    assert len(set(files)) == len(received) == count + 1


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_previews_have_the_format_of_the_picture(client: OpenAI, output_format: str) -> None:
    events = streamed(client, partial_images=2, output_format=output_format, extra_body=EIGHT_STEPS)
    for event in events:
        image = Image.open(io.BytesIO(decoded(event.b64_json)))
        assert (image.format, event.output_format) == (output_format.upper(), output_format)
    assert previews(events)


def test_several_pictures_come_one_by_one(service: Running, client: OpenAI) -> None:
    events = streamed(client, partial_images=1, extra_body=EIGHT_STEPS, n=2)
    body = {"class_label": "pear", **EIGHT_STEPS, "num_images": 2}
    done = completed(events)
    assert [decoded(each.b64_json) for each in done] == images_of(generate(service, body))
    assert [(each.model_extra or {})["index"] for each in done] == [0, 1]
    assert {(each.model_extra or {})["index"] for each in previews(events)} == {0, 1}
    assert {each.partial_image_index for each in previews(events)} == {0}


def test_the_asynchronous_client_streams(service: Running) -> None:
    async def ask() -> list[ImageGenStreamEvent]:
        async with async_openai_client(service) as client:
            stream = await client.images.generate(
                prompt="pear", stream=True, partial_images=3, extra_body=EIGHT_STEPS
            )
            async with stream:
                return [event async for event in stream]

    events = asyncio.run(ask())
    body = {"class_label": "pear", **EIGHT_STEPS}
    assert decoded(completed(events)[0].b64_json) == generate(service, body).content
    assert previews(events)


def test_nothing_is_sent_that_a_client_does_not_know(service: Running) -> None:
    """It takes every event that it does not know for a preview."""
    body = {"prompt": "pear", "stream": True, "partial_images": 1, **EIGHT_STEPS}
    answer = service.client.post(ROUTE, json=body, headers={"Accept": "application/json"})
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store, no-transform"
    lines = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert len(names) + len(data) == len(lines)
    assert names == [each["type"] for each in data]
    assert set(names) <= {"image_generation.partial_image", "image_generation.completed"}


def test_a_failure_during_the_stream_is_raised(failing: Running) -> None:
    with openai_client(failing) as client, pytest.raises(APIError) as caught:
        streamed(client, extra_body={"seed": 666, "num_inference_steps": 5})
    assert (caught.value.code, caught.value.type) == ("image_failed", "server_error")
    assert caught.value.message == "image 0 could not be made; no other request was affected"
    labels = {"route": ROUTE, "outcome": "failed"}
    wait_until(lambda: failing.metric("dit_requests_total", **labels) == 1)


def test_a_client_that_stops_reading_stops_the_work(pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (running, runner), openai_client(running) as client:
        with client.images.generate(
            prompt="pear",
            stream=True,
            partial_images=3,
            extra_body={"num_inference_steps": 4},
        ) as events:
            runner.let(1)
            assert isinstance(next(events), ImageGenPartialImageEvent)
        route = "/v1/images/generations"
        wait_until(
            lambda: running.metric("dit_requests_total", route=route, outcome="cancelled") == 1
        )
        runner.let(1)
        wait_until(lambda: running.metric("dit_images_total", outcome="cancelled") == 1)
        assert running.queue_row_steps == 0


@pytest.mark.parametrize(("stream", "written"), [(False, {"_body"}), (True, {"_event"})])
def test_files_are_written_into_answers_in_the_encoders_threads(
    service: Running, monkeypatch: pytest.MonkeyPatch, stream: bool, written: set[str]
) -> None:
    """They are large, and the event loop has other requests."""
    threads: dict[str, set[str]] = {}

    def noting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: object) -> object:
            threads.setdefault(name, set()).add(threading.current_thread().name)
            return function(*args)

        return noted

    for name in ("_body", "_event"):
        monkeypatch.setattr(answers, name, noting(name, getattr(answers, name)))
    body = {"prompt": "pear", "stream": stream, "partial_images": 2, **EIGHT_STEPS}
    assert service.client.post(ROUTE, json=body).status_code == 200
    assert threads.keys() == written
    assert all(name.startswith("encode") for seen in threads.values() for name in seen)
