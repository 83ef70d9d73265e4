"""text/event-stream: progress, previews and images as they occur."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.types import Message

from service.http.events import EventResponse, EventStream, ProgressBox
from service.images.encoder import Encoder
from service.images.order import Order
from service.metrics import Metrics
from service.scheduling.jobs import Job, Progress
from tests.support.jobs import job
from tests.support.requests import PICTURE, Event, gated_service, generate, images_of, read_events
from tests.support.services import Running, wait_until

STREAM = {"Accept": "text/event-stream"}


@contextmanager
def streaming(service: Running, body: Mapping[str, object]) -> Iterator[Iterator[Event]]:
    """The events of one request; leaving the block hangs up."""
    with service.client.stream("POST", "/generate", json=body, headers=STREAM) as answer:
        assert answer.status_code == 200
        yield read_events(answer.iter_lines())


def all_events(service: Running, body: Mapping[str, object]) -> list[Event]:
    with streaming(service, body) as events:
        return list(events)


def file_of(event: Event) -> bytes:
    return base64.b64decode(str(event.data["b64_json"]))


def test_the_answer_has_the_headers_of_a_stream(service: Running) -> None:
    answer = generate(service, PICTURE, "text/event-stream")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store, no-transform"
    assert answer.headers["X-Seed"] == "1"
    assert answer.headers["X-Class-Label"] == "1"
    assert answer.text.endswith("\n\n")


def test_progress_comes_before_the_image_and_done_after_it(service: Running) -> None:
    events = all_events(service, PICTURE | {"num_sampling_steps": 6})
    names = [event.name for event in events]
    assert names == ["progress"] * (len(names) - 2) + ["image", "done"]
    assert len(names) > 2
    steps = [int(str(event.data["step"])) for event in events if event.name == "progress"]
    assert steps == sorted(set(steps))
    assert all(event.data["steps"] == 6 for event in events if event.name == "progress")


def test_streamed_images_equal_those_of_a_plain_answer(service: Running) -> None:
    body = PICTURE | {"num_images": 2, "output_format": "webp"}
    *_, first, second, done = all_events(service, body)
    plain = generate(service, body)
    assert [file_of(first), file_of(second)] == images_of(plain)
    assert [event.data["index"] for event in (first, second)] == [0, 1]
    assert first.data["content_type"] == "image/webp"
    content = plain.json()
    assert done.data["parameters"] == content["parameters"]
    assert done.data["model"] == content["model"]
    assert set(done.data) == {"parameters", "timings", "model"}


def test_every_tick_is_reported(pipeline_folder: Path) -> None:
    body = PICTURE | {"num_sampling_steps": 4}
    with (
        gated_service(pipeline_folder) as (running, runner),
        streaming(running, body) as events,
    ):
        for step in (1, 2, 3):
            runner.let(1)
            data: dict[str, object] = {"step": step, "steps": 4, "ahead_in_queue": 0}
            assert next(events) == Event("progress", data)
        runner.open()
        assert [event.name for event in events] == ["image", "done"]


def test_previews_come_at_the_requested_interval(pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        body = PICTURE | {"num_sampling_steps": 6, "preview_every": 2}
        received = []
        with streaming(running, body) as events:
            for step in range(1, 6):
                runner.let(1)
                received += [next(events) for _ in range(2 if step % 2 == 0 else 1)]
            runner.open()
            received += list(events)
    names = [event.name for event in received]
    shown = ["progress", "progress", "preview"] * 2 + ["progress"]
    assert names == [*shown, "image", "done"]
    previews = [file_of(event) for event in received if event.name == "preview"]
    assert [Image.open(io.BytesIO(file)).size for file in previews] == [(8, 8), (8, 8)]
    assert previews[0] != previews[1]


def test_a_slow_reader_gets_the_latest_progress_and_each_images_latest_preview() -> None:
    async def read_late() -> list[Progress | None]:
        box = ProgressBox(asyncio.get_running_loop())
        for step in range(100):
            pixels = np.full((8, 8, 3), step, dtype=np.uint8)
            box.put(Progress(step, 100, 0, ((step % 2, pixels),)))
        await asyncio.sleep(0)
        box.end()
        return [await box.get(), await box.get()]

    latest, end = asyncio.run(read_late())
    assert latest is not None
    assert latest.steps_done == 99
    assert [(index, pixels.max()) for index, pixels in latest.previews] == [(0, 98), (1, 99)]
    assert end is None


def test_progress_after_the_loop_has_ended_is_ignored() -> None:
    async def new_box() -> ProgressBox:
        return ProgressBox(asyncio.get_running_loop())

    box = asyncio.run(new_box())
    box.put(Progress(1, 2, 0))  # an exception would end the engine's thread


def test_every_image_has_previews(service: Running) -> None:
    body = PICTURE | {"num_sampling_steps": 12, "preview_every": 3, "num_images": 2}
    events = all_events(service, body)
    assert {event.data["index"] for event in events if event.name == "preview"} == {0, 1}


def test_previews_are_off_by_default(service: Running) -> None:
    assert "preview" not in {event.name for event in all_events(service, PICTURE)}


def test_other_forms_ignore_preview_every(service: Running) -> None:
    plain, with_previews = (
        generate(service, PICTURE),
        generate(service, PICTURE | {"preview_every": 1}),
    )
    assert plain.content == with_previews.content


def test_waiting_requests_are_told_how_many_are_ahead(pipeline_folder: Path) -> None:
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_rows=2) as (running, runner),
    ):
        first = pool.submit(generate, running, PICTURE)
        wait_until(lambda: running.queue_row_steps == 4)
        second = pool.submit(generate, running, PICTURE)
        wait_until(lambda: running.queue_row_steps == 8)
        with streaming(running, PICTURE) as events:
            runner.let(2)  # the first request's steps
            assert next(events).data == {"step": 0, "steps": 2, "ahead_in_queue": 1}
            runner.let(1)  # the second has joined
            assert next(events).data == {"step": 0, "steps": 2, "ahead_in_queue": 0}
            runner.open()
            assert [event.name for event in events][-2:] == ["image", "done"]
        assert first.result().status_code == second.result().status_code == 200


def test_a_failure_during_the_stream_is_an_event(failing: Running) -> None:
    body = PICTURE | {"seed": 666, "num_sampling_steps": 5}
    with failing.client.stream("POST", "/generate", json=body, headers=STREAM) as answer:
        request_id = answer.headers["X-Request-Id"]
        *progress, error = read_events(answer.iter_lines())
    assert {event.name for event in progress} <= {"progress"}
    assert error.name == "error"
    assert error.data == {
        "type": "urn:dit-service:image-failed",
        "title": "Image failed",
        "status": 500,
        "detail": "image 0 could not be made; no other request was affected",
        "request_id": request_id,
    }
    wait_until(lambda: requests(failing, "failed") == 1)
    assert requests(failing, "ok") == 0


def test_a_deadline_that_passes_during_the_stream_is_an_event(pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        with streaming(running, PICTURE | {"num_sampling_steps": 4, "timeout_s": 1.2}) as events:
            runner.let(1)
            assert next(events).name == "progress"
            time.sleep(1.3)
            runner.open()
            *_, error = events
        assert (error.name, error.data["status"]) == ("error", 504)
        wait_until(lambda: requests(running, "timeout") == 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"class_label": -1}, 422), ({"class_label": "aple"}, 404), ({}, 422)],
)
def test_an_invalid_request_is_answered_without_a_stream(
    service: Running, body: dict[str, object], status: int
) -> None:
    answer = generate(service, body, "text/event-stream")
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.content)["status"] == status


def test_a_client_that_hangs_up_stops_the_work(pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        with streaming(running, PICTURE | {"num_sampling_steps": 1000, "num_images": 2}) as events:
            runner.let(1)
            assert next(events).name == "progress"
        wait_until(lambda: requests(running, "cancelled") == 1)
        runner.let(1)
        wait_until(lambda: running.metric("dit_images_total", outcome="cancelled") == 2)
        assert running.queue_row_steps == 0
        runner.open()
        assert generate(running, PICTURE).status_code == 200


@pytest.mark.parametrize("gone", [True, False])
def test_a_client_that_leaves_before_the_first_byte_stops_the_work(gone: bool) -> None:
    """The start of the answer may wait for an earlier answer to be read."""

    async def leave() -> Job:
        waiting = job("a", [1])
        with ThreadPoolExecutor(1) as pool:
            stream = EventStream(
                waiting,
                Future(),
                ProgressBox(asyncio.get_running_loop()),
                Order((), 60.0),
                encoder=Encoder(pool, Metrics()),
                output_format="png",
                on_error=lambda status: None,
            )
            starting = asyncio.Event()

            async def send(message: Message) -> None:
                starting.set()
                await asyncio.Event().wait()

            async def receive() -> Message:
                if not gone:
                    await starting.wait()
                return {"type": "http.disconnect"}

            await EventResponse(stream, {})({"type": "http"}, receive, send)
        return waiting

    assert asyncio.run(leave()).cancelled


def requests(running: Running, outcome: str) -> float:
    return running.metric("dit_requests_total", route="/generate", outcome=outcome)


def test_a_silent_stream_is_kept_alive() -> None:
    async def first_two() -> list[str]:
        box = ProgressBox(asyncio.get_running_loop())
        waiting = job("a", [1])
        with ThreadPoolExecutor(1) as pool:
            stream = EventStream(
                waiting,
                Future(),
                box,
                Order((), 60.0),
                encoder=Encoder(pool, Metrics()),
                output_format="png",
                on_error=lambda status: None,
                ping_s=0.01,
            )
            events = stream.events()
            first = await anext(events)
            box.put(Progress(1, 2, 0))
            while (second := await anext(events)) == first:
                pass
        assert isinstance(events, AsyncGenerator)
        await events.aclose()
        assert waiting.cancelled  # the reader left
        return [first, second]

    ping, progress = asyncio.run(first_two())
    assert ping == ": ping\n\n"
    assert progress.startswith("event: progress\n")
