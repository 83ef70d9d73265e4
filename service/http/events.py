"""Events: a request's progress, previews and images as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from typing import Protocol

import numpy as np
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from service.engine.model_info import ModelInfo
from service.errors import ImageFailed, ServiceError
from service.http.answers import image_json, summary_json
from service.http.context import client_limits_of, client_of, context_of
from service.http.disconnect import retrieve_exception
from service.http.negotiation import EVENTS
from service.http.problems import note_error, problem_body
from service.images.encoder import Encoded, Encoder
from service.images.encoding import OutputFormat
from service.images.order import Order, make_job
from service.scheduling.jobs import Job, JobResult, Progress

PING_S = 15.0
"""Proxies close silent connections; their shortest usual limit is 30 s."""

PING = ": ping\n\n"  # a comment, which clients skip

NO_BUFFERING = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Proxies that compress hold parts of an answer back; the second header is for nginx."""

log = structlog.get_logger()


class ProgressBox:
    """Carries progress from the engine's thread to the event loop. Slow readers get the latest.

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
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the reader with it
            self._loop.call_soon_threadsafe(self._store, progress)

    def end(self) -> None:
        """No more progress will come."""
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


class Wording(Protocol):
    """How the events of a request are written. An empty text is not sent."""

    def progress(self, progress: Progress) -> str: ...

    def preview(self, index: int, file: bytes) -> str:
        """Called in a thread, as is `image`."""

    def image(self, index: int, order: Order, encoded: Encoded) -> str: ...

    def end(self, order: Order, encoded: Encoded) -> str: ...

    def error(self, error: ServiceError, request_id: str) -> str: ...


class GenerateEvents:
    """The events of POST /generate: progress, preview, image, done, error."""

    def __init__(self, output_format: OutputFormat) -> None:
        self._output_format = output_format

    def progress(self, progress: Progress) -> str:
        return sse("progress", json.dumps(_progress_data(progress)))

    def preview(self, index: int, file: bytes) -> str:
        return _preview(index, file)

    def image(self, index: int, order: Order, encoded: Encoded) -> str:
        return sse("image", image_json(index, order, encoded, self._output_format))

    def end(self, order: Order, encoded: Encoded) -> str:
        return sse("done", summary_json(order, encoded))

    def error(self, error: ServiceError, request_id: str) -> str:
        return sse("error", json.dumps(problem_body(error, request_id)))


class EventStream:
    """One request's events: progress and previews, then its images and an end, or an error.

    Args:
        answer: the future that `Engine.submit` returned for the job.
        box: where the job reports its progress.
        on_error: called with the error that the stream ends in.
        wording: how the events are written.
        ping_s: send a comment after this many seconds without an event.
    """

    def __init__(
        self,
        job: Job,
        answer: Future[JobResult],
        box: ProgressBox,
        order: Order,
        *,
        encoder: Encoder,
        output_format: OutputFormat,
        on_error: Callable[[ServiceError], None],
        wording: Wording | None = None,
        ping_s: float = PING_S,
    ) -> None:
        self._job = job
        self._answer = answer
        self._box = box
        self._order = order
        self._encoder = encoder
        self._output_format = output_format
        self._on_error = on_error
        self._wording = wording or GenerateEvents(output_format)
        self._ping_s = ping_s

    def cancel(self) -> None:
        """Stop the work, if it is not finished."""
        self._job.cancel()

    async def events(self) -> AsyncIterator[str]:
        """Every event as it occurs. A reader that leaves cancels the job."""
        done = asyncio.wrap_future(self._answer)
        done.add_done_callback(self._end)
        try:
            async for event in self._while_running():
                if event:
                    yield event
            async for event in self._results(await done):
                if event:
                    yield event
        except ServiceError as error:
            yield self._error(error)
        except Exception:  # the answer has begun, so the stream itself has to report it
            log.exception("unexpected error")
            yield self._error(ImageFailed("an unexpected error; see the log"))
        finally:
            self._job.cancel()

    async def _while_running(self) -> AsyncIterator[str]:
        while True:
            try:
                progress = await asyncio.wait_for(self._box.get(), self._ping_s)
            except TimeoutError:
                yield PING
                continue
            if progress is None:
                return
            yield self._wording.progress(progress)
            for index, pixels in progress.previews:
                parameters = self._order.images[index]
                file = await self._encoder.encode(pixels, self._output_format, parameters)
                yield await self._encoder.run(self._wording.preview, index, file)

    async def _results(self, result: JobResult) -> AsyncIterator[str]:
        order = self._order
        encoded = await self._encoder.encode_all(result, order, self._output_format)
        for index in range(len(order.images)):
            yield await self._encoder.run(self._wording.image, index, order, encoded)
        yield self._wording.end(order, encoded)

    def _error(self, error: ServiceError) -> str:
        self._on_error(error)
        return self._wording.error(error, self._job.id)

    def _end(self, done: asyncio.Future[JobResult]) -> None:
        self._box.end()
        retrieve_exception(done)  # the reader may have left


class EventResponse(StreamingResponse):
    """A stream's events as an answer. However it ends, even before its first byte, the job ends."""

    def __init__(self, stream: EventStream, headers: Mapping[str, str]) -> None:
        super().__init__(stream.events(), media_type=EVENTS, headers={**headers, **NO_BUFFERING})
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.cancel()


def stream_events(
    request: Request,
    order: Order,
    model_info: ModelInfo,
    *,
    output_format: OutputFormat,
    wording: Wording,
    headers: Mapping[str, str],
    preview_every: int = 0,
    preview_count: int = 0,
) -> Response:
    """Submit an order, and answer with its events. `Job` explains the previews.

    Raises:
        ServiceError: it was not admitted.
    """
    context = context_of(request)
    box = ProgressBox(asyncio.get_running_loop())
    job = make_job(
        order,
        model_info,
        request.state.request_id,
        client=client_of(request),
        client_limits=client_limits_of(request),
        preview_every=preview_every,
        preview_count=preview_count,
        on_progress=box.put,
    )
    stream = EventStream(
        job,
        context.engine.submit(job),
        box,
        order,
        encoder=context.encoder,
        output_format=output_format,
        on_error=lambda error: note_error(request.scope, error),
        wording=wording,
    )
    request.state.filler = PING.encode()
    return EventResponse(stream, headers)


def sse(name: str, data: str) -> str:
    """One event. ``data`` is JSON, which has no line breaks."""
    return f"event: {name}\ndata: {data}\n\n"


def _progress_data(progress: Progress) -> dict[str, object]:
    return {
        "step": progress.steps_done,
        "steps": progress.steps,
        "ahead_in_queue": progress.ahead_in_queue,
    }


def _preview(index: int, file: bytes) -> str:
    text = base64.b64encode(file).decode("ascii")
    return sse("preview", json.dumps({"index": index, "b64_json": text}))
