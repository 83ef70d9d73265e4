"""Events: a request's progress, previews and images as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future

import numpy as np
import structlog

from service.errors import ImageFailed, ServiceError
from service.http.answers import as_json
from service.http.problems import problem_body
from service.images.order import Encoder, Order
from service.scheduling.jobs import Job, JobResult, Progress

log = structlog.get_logger()


class ProgressBox:
    """Carries progress from the engine's thread to the event loop; a slow reader sees the latest.

    Args:
        loop: the loop that reads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._latest: Progress | None = None
        self._previews: dict[int, np.ndarray] = {}
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, progress: Progress) -> None:
        """Called in the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its reader with it
            self._loop.call_soon_threadsafe(self._store, progress)

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._changed.set()

    async def get(self) -> Progress | None:
        """The latest progress, with each image's latest preview; None after the end."""
        await self._changed.wait()
        latest, previews = self._latest, tuple(self._previews.items())
        self._latest, self._previews = None, {}
        if not self._ended:
            self._changed.clear()
        if latest is None:
            return None
        return Progress(latest.steps_done, latest.steps, latest.ahead_in_queue, previews)

    def _store(self, progress: Progress) -> None:
        self._latest = progress
        self._previews |= dict(progress.previews)
        self._changed.set()


class EventStream:
    """One request's events: progress and previews, then its images and "done", or "error".

    Args:
        promise: what comes of the job.
        box: what the job reports to.
        on_error: told the status that an answer of its own would have had.
    """

    def __init__(
        self,
        job: Job,
        promise: Future[JobResult],
        box: ProgressBox,
        order: Order,
        *,
        encoder: Encoder,
        output_format: str,
        on_error: Callable[[int], None],
    ) -> None:
        self._job = job
        self._promise = promise
        self._box = box
        self._order = order
        self._encoder = encoder
        self._output_format = output_format
        self._on_error = on_error

    async def events(self) -> AsyncIterator[str]:
        """Every event as it comes. A reader that leaves cancels the job."""
        done = asyncio.wrap_future(self._promise)
        done.add_done_callback(self._end)
        try:
            async for event in self._while_running():
                yield event
            for event in await self._results(await done):
                yield event
        except ServiceError as error:
            yield self._error(error)
        except Exception:  # the answer has begun: this is the last place to say so
            log.exception("unexpected error", request_id=self._job.id)
            yield self._error(ImageFailed("an unexpected error; the log has it"))
        finally:
            self._job.cancel()

    async def _while_running(self) -> AsyncIterator[str]:
        while (progress := await self._box.get()) is not None:
            yield _event("progress", _shown(progress))
            for index, pixels in progress.previews:
                parameters = self._order.images[index]
                file = await self._encoder.encode(pixels, self._output_format, parameters)
                text = base64.b64encode(file).decode("ascii")
                yield _event("preview", {"index": index, "b64_json": text})

    async def _results(self, result: JobResult) -> list[str]:
        encoded = await self._encoder.encode_all(result, self._order, self._output_format)
        answer = as_json(self._order, encoded, self._output_format)
        images = [_event("image", image.model_dump()) for image in answer.images]
        return [*images, _event("done", answer.model_dump(exclude={"images"}))]

    def _error(self, error: ServiceError) -> str:
        self._on_error(error.status)
        return _event("error", problem_body(error, self._job.id))

    def _end(self, done: asyncio.Future[JobResult]) -> None:
        self._box.end()
        if not done.cancelled():
            done.exception()  # seen, also where the reader has left


def _shown(progress: Progress) -> dict[str, object]:
    return {
        "step": progress.steps_done,
        "steps": progress.steps,
        "ahead_in_queue": progress.ahead_in_queue,
    }


def _event(name: str, data: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
