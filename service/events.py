"""Events: a request's progress, previews and images as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import numpy as np

from service.answers import as_json
from service.errors import ServiceError
from service.generation import Encoder, Order
from service.jobs import Job, JobResult, Progress

News = tuple[Progress, list[tuple[int, np.ndarray]]]
"""The latest progress, and the previews that came since."""


class ProgressBox:
    """Carries progress from the engine's thread to the event loop; a slow reader sees the latest.

    Args:
        loop: the loop that reads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._latest: Progress | None = None
        self._previews: list[tuple[int, np.ndarray]] = []
        self._changed = asyncio.Event()

    def put(self, progress: Progress) -> None:
        """Called in the engine's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._store, progress)

    async def get(self) -> News:
        """The latest progress, and all previews since the last call."""
        await self._changed.wait()
        self._changed.clear()
        previews, self._previews = self._previews, []
        assert self._latest is not None, "this is a bug: woken before any progress"
        return self._latest, previews

    def _store(self, progress: Progress) -> None:
        self._latest = progress
        self._previews += progress.previews
        self._changed.set()


async def stream(
    job: Job, box: ProgressBox, order: Order, encoder: Encoder, output_format: str
) -> AsyncIterator[str]:
    """Events until the job ends: progress and preview, then image and done, or error.

    A reader that leaves cancels the job.
    """
    done = asyncio.wrap_future(job.future)
    try:
        async for event in _while_running(done, box, order, encoder, output_format):
            yield event
        encoded = await encoder.encode_all(done.result(), order, output_format)
        answer = as_json(order, encoded, output_format)
        for image in answer.images:
            yield _event("image", image.model_dump())
        yield _event("done", answer.model_dump(exclude={"images"}))
    except ServiceError as error:
        problem = {"title": error.title, "status": error.status, "detail": error.detail}
        yield _event("error", problem | {"request_id": job.id})
    finally:
        job.cancel()


async def _while_running(
    done: asyncio.Future[JobResult],
    box: ProgressBox,
    order: Order,
    encoder: Encoder,
    output_format: str,
) -> AsyncIterator[str]:
    while not done.done():
        news = asyncio.ensure_future(box.get())
        either: set[asyncio.Future[JobResult] | asyncio.Future[News]] = {done, news}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not news.done():
            news.cancel()
            return
        progress, previews = news.result()
        yield _event(
            "progress",
            {
                "step": progress.steps_done,
                "steps": progress.steps,
                "ahead_in_queue": progress.ahead_in_queue,
            },
        )
        for index, pixels in previews:
            file = await encoder.encode(pixels, output_format, order.images[index])
            yield _event("preview", {"index": index, "b64_json": _base64(file)})


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode("ascii")


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
