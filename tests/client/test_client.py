"""Both clients against a running service: what they return, raise and free."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx
import pytest
from PIL import Image as Pictures
from PIL.PngImagePlugin import PngInfo

from dit_client import (
    NO_RETRIES,
    AsyncClient,
    ClassEntry,
    Client,
    DeadlinePassed,
    Done,
    Image,
    InvalidRequest,
    Preview,
    Progress,
    QueueFull,
    UnknownClass,
)
from tests.client.conftest import Connect, EitherClient
from tests.support.requests import PICTURE, gated_service, generate
from tests.support.services import Running, wait_until


def test_one_image_and_all_that_belongs_to_it(client: EitherClient, service: Running) -> None:
    generation = client.generate("pear", seed=1, num_sampling_steps=2, cfg_scale=1.5)
    file = generate(service, PICTURE | {"cfg_scale": 1.5}, "image/png").content
    image = generation.image
    assert (image.data, image.seed, image.content_type) == (file, 1, "image/png")
    parameters = generation.parameters
    assert (parameters.class_label, parameters.class_name) == (1, "pear")
    assert (parameters.num_sampling_steps, parameters.cfg_scale) == (2, 1.5)
    assert (parameters.sampler, parameters.guidance_interval) == ("ddim", (0.0, 1.0))
    assert parameters.members["num_images"] == 1
    assert generation.timings.denoise > 0
    assert generation.model == service.engine.model_info.name
    assert generation.etag
    assert generation.request_id


def test_several_images_in_another_format(client: EitherClient) -> None:
    generation = client.generate(3, num_images=3, output_format="webp", seed=5)
    assert [image.index for image in generation.images] == [0, 1, 2]
    assert len({image.seed for image in generation.images}) == 3
    assert {Pictures.open(io.BytesIO(one.data)).format for one in generation.images} == {"WEBP"}
    assert {image.suffix for image in generation.images} == {"webp"}


def test_none_is_the_default_and_extra_fields_are_sent(client: EitherClient) -> None:
    generation = client.generate(0, seed=None, sampler=None, extra={"num_inference_steps": 3})
    assert generation.parameters.num_sampling_steps == 3


def test_a_stream_ends_in_what_generate_returns(client: EitherClient) -> None:
    events = client.events("fig", seed=2, num_images=2, num_sampling_steps=4, preview_every=1)
    kinds = [type(event) for event in events]
    assert kinds[0] is Progress
    assert kinds[-3:] == [Image, Image, Done]
    assert Preview in kinds
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps == sorted(steps)
    assert all(event.steps == 8 for event in events if isinstance(event, Progress))
    previews = [event for event in events if isinstance(event, Preview)]
    assert all(Pictures.open(io.BytesIO(event.data)).size == (8, 8) for event in previews)
    done = events[-1]
    assert isinstance(done, Done)
    plain = client.generate("fig", seed=2, num_images=2, num_sampling_steps=4)
    assert done.generation.images == plain.images == tuple(events[-3:-1])
    assert done.generation.parameters == plain.parameters
    assert done.generation.request_id


def test_classes_models_and_health(client: EitherClient, service: Running) -> None:
    assert len(client.classes()) == 5
    assert client.classes("damson") == (ClassEntry(2, "plum", ("damson plum",)),)
    assert client.classes("no such fruit") == ()
    (model,) = client.models()
    assert model.digest == service.engine.model_info.digest
    assert (model.image_size, model.num_classes, model.device) == (8, 5, "cpu")
    assert model.limits["num_images"] == [1, 16]
    assert client.health().ready


def test_verify_tells_a_true_file_from_a_changed_one(client: EitherClient) -> None:
    file = client.generate(1, seed=1).image.data
    verdict = client.verify(file)
    assert verdict.verified
    assert verdict.parameters["seed"] == 1
    picture = Pictures.open(io.BytesIO(file))
    texts = picture.info
    changed = io.BytesIO()
    inverted = Pictures.eval(picture, lambda value: 255 - value)
    inverted.save(changed, "png", pnginfo=_texts(texts))
    assert not client.verify(changed.getvalue()).verified


def _texts(info: Mapping[str | tuple[int, int], object]) -> PngInfo:
    texts = PngInfo()
    for name in ("dit", "parameters"):
        texts.add_text(name, str(info[name]))
    return texts


def test_wrong_fields_are_named_with_what_is_allowed(client: EitherClient) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.generate(1, cfg_scale=99.0, num_images=-1)
    by_name = {error.field: error for error in caught.value.errors}
    assert set(by_name) == {"cfg_scale", "num_images"}
    assert "20" in str(by_name["cfg_scale"].allowed)
    assert by_name["cfg_scale"].value == 99.0
    assert caught.value.status == 422
    assert caught.value.request_id


def test_an_unknown_class_comes_with_the_nearest_names(client: EitherClient) -> None:
    with pytest.raises(UnknownClass) as caught:
        client.generate("quinze")
    assert caught.value.nearest[0] == "quince"
    with pytest.raises(UnknownClass):
        client.events("quinze")


def test_the_service_learns_of_the_callers_time(client: EitherClient) -> None:
    with pytest.raises(DeadlinePassed) as caught:
        client.generate(1, num_sampling_steps=1000, num_images=16, timeout_s=0.1)
    assert caught.value.status == 504  # the service itself has given up, and not just we


def test_a_full_queue_says_when_to_come_back(connect: Connect, pipeline_folder: Path) -> None:
    with (
        gated_service(pipeline_folder, max_queue_row_steps=10) as (running, runner),
        AsyncCall(running.url) as first,
    ):
        wait_until(lambda: running.queue_row_steps > 0)
        with pytest.raises(QueueFull) as caught:
            connect(running.url).generate(1, num_sampling_steps=5, timeout_s=0.5)
        assert (caught.value.retry_after_s or 0) >= 1
        first.leave()
        runner.open()
        wait_until(lambda: running.queue_row_steps == 0)


def test_leaving_a_stream_stops_its_images(connect: Connect, pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        runner.let(1)
        client = connect(running.url)
        client.events(1, num_sampling_steps=50, num_images=2, count=1)
        wait_until(
            lambda: (
                running.metric("dit_requests_total", route="/generate", outcome="cancelled") == 1
            )
        )
        runner.let(1)
        wait_until(lambda: running.metric("dit_images_total", outcome="cancelled") == 2)
        wait_until(lambda: running.queue_row_steps == 0)


def test_cancelling_a_task_stops_its_images(pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (running, runner):
        with AsyncCall(running.url) as call:
            wait_until(lambda: running.queue_row_steps > 0)
            call.leave()
        left = {"route": "/generate", "outcome": "cancelled"}
        wait_until(lambda: running.metric("dit_requests_total", **left) == 1)
        runner.open()
        wait_until(lambda: running.metric("dit_images_total", outcome="cancelled") == 1)
        wait_until(lambda: running.queue_row_steps == 0)


class AsyncCall:
    """A call in flight in a thread of its own, until it is cancelled."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._thread.join()

    def leave(self) -> None:
        if self._thread.is_alive() and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._call())
        self._loop.run_until_complete(asyncio.wait([self._task]))
        self._loop.close()

    async def _call(self) -> None:
        async with AsyncClient(self._url, retries=NO_RETRIES) as client:
            await client.generate(1, num_sampling_steps=1000)


def test_images_are_saved(service: Running, tmp_path: Path) -> None:
    with Client(service.url) as client:
        image = client.generate(1).image
        image.save(tmp_path / "pear.png")
        assert client.verify(tmp_path / "pear.png").verified


def test_the_url_may_have_a_path_and_no_scheme(service: Running) -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(str(request.url))
        return httpx.Response(200, json=[])

    for url in ("host:1/under/", "http://host:1/under"):
        with Client(url, transport=httpx.MockTransport(answer)) as client:
            client.classes("a b")
    assert set(paths) == {"http://host:1/under/classes?q=a+b"}
    for wrong in ("ftp://host", "http://", "http://host?q=1", "http://host:port"):
        with pytest.raises(ValueError, match=r"URL|address"):
            Client(wrong)


def test_importing_the_client_brings_nothing_heavy() -> None:
    code = (
        "import sys, dit_client; heavy = {'torch', 'numpy', 'PIL', 'pydantic',"
        " 'service', 'model', 'dit_client.cli'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
