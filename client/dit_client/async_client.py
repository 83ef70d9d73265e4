"""AsyncClient: the service's API, for asyncio and trio."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TypeVar

import anyio
import httpx
from typing_extensions import Self, Unpack

from dit_client import calls
from dit_client.calls import Answer, Call
from dit_client.errors import DeadlineExceeded, DitError, NoAnswer
from dit_client.events import Event, EventReader
from dit_client.exchange import (
    DEFAULT_URL,
    GRACE_S,
    LIMITS,
    answer_of,
    opened_stream,
    our_errors,
    settings,
)
from dit_client.options import Options
from dit_client.results import ClassEntry, Generation, Health, Model, Verification
from dit_client.retries import NO_RETRIES, Deadline, Final, Outcome, Pause, RetryPolicy, attempts

T = TypeVar("T")


class AsyncClient:
    """As `Client`, with `await`. Cancelling a call closes its connection, and the service stops its
    images.

    Args and errors are those of `Client`; the transport is an asynchronous one.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float | None = None,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008 - it is frozen
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings(url, api_key, timeout_s, retries)
        self._http = httpx.AsyncClient(transport=transport, limits=LIMITS)

    async def generate(
        self,
        class_label: int | str,
        *,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> Generation:
        """Images of a class, given by id, name or synonym; one unless ``num_images`` says more."""
        return await self._call(calls.generate(class_label, options), timeout_s)

    @asynccontextmanager
    async def stream(
        self,
        class_label: int | str,
        *,
        preview_every: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The same images as events: `Progress`, `Preview` every so many steps, `Image`, and `Done`.

        Leaving the block closes the connection, and the service stops the images.
        """
        call = calls.stream(class_label, options, preview_every)
        deadline = self._settings.deadline(timeout_s)
        final = await self._open(call, deadline, timeout_s, self._settings.retries)
        response = opened_stream(final)
        try:
            yield self._events(response, deadline)
        finally:
            await _close(response)

    async def classes(
        self, search: str = "", *, timeout_s: float | None = None
    ) -> tuple[ClassEntry, ...]:
        """The classes; with ``search``, those with a name that contains it."""
        return await self._call(calls.classes(search), timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> tuple[Model, ...]:
        """The models that are served, with their limits and defaults; at present one."""
        return await self._call(calls.models(), timeout_s)

    async def verify(
        self, file: bytes | str | os.PathLike[str], *, timeout_s: float | None = None
    ) -> Verification:
        """Whether an image, given as bytes or as a path, is what its metadata says."""
        return await self._call(calls.verify(file), timeout_s)

    async def health(self, *, timeout_s: float | None = 10.0) -> Health:
        """Whether the service takes requests. A 503 is an answer here and is not tried again."""
        return await self._call(calls.health(), timeout_s, NO_RETRIES)

    async def aclose(self) -> None:
        """Close the connections. Streams that are open end with an error."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _call(
        self, call: Call[T], timeout_s: float | None, policy: RetryPolicy | None = None
    ) -> T:
        deadline = self._settings.deadline(timeout_s)
        final = await self._open(call, deadline, timeout_s, policy or self._settings.retries)
        if isinstance(final, httpx.Response):
            final = await self._read(final, deadline)
        return call.read(final)

    async def _open(
        self, call: Call[object], deadline: Deadline, timeout_s: float | None, policy: RetryPolicy
    ) -> Final:
        """The response of the last attempt: open if it is a success, else read."""
        tries = attempts(deadline, policy)
        outcome: Outcome = None
        while True:
            try:
                step = tries.send(outcome)
            except StopIteration as end:
                final: Final = end.value
                return final
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._attempt(
                    self._settings.request(self._http, call, step.left_s, timeout_s), deadline
                )

    async def _attempt(self, request: httpx.Request, deadline: Deadline) -> Outcome:
        try:
            with our_errors(self._settings.url, deadline):
                response = await self._sent(request, deadline)
            return response if response.is_success else await self._read(response, deadline)
        except DitError as error:
            return error

    async def _sent(self, request: httpx.Request, deadline: Deadline) -> httpx.Response:
        """The response, its body not read. A head that drips in is not waited for longer than a silent
        server."""
        with anyio.move_on_after(deadline.left_s + GRACE_S):
            return await self._http.send(request, stream=True)
        raise deadline.exceeded()

    async def _read(self, response: httpx.Response, deadline: Deadline) -> Answer:
        """The whole answer. However this ends, the response is closed."""
        try:
            chunks = [chunk async for chunk in self._chunks(response, deadline)]
            return answer_of(response, b"".join(chunks))
        finally:
            await _close(response)

    async def _events(self, response: httpx.Response, deadline: Deadline) -> AsyncIterator[Event]:
        reader = EventReader(response.headers)
        try:
            async for chunk in self._chunks(response, deadline):
                for event in reader.feed(chunk):
                    yield event
        except (NoAnswer, DeadlineExceeded):
            if reader.generation is None:  # else nothing is missing
                raise
        reader.end()

    async def _chunks(self, response: httpx.Response, deadline: Deadline) -> AsyncIterator[bytes]:
        with our_errors(self._settings.url, deadline, answer_begun=True):
            async for chunk in response.aiter_bytes():
                deadline.check(GRACE_S)
                yield chunk


async def _close(response: httpx.Response) -> None:
    with anyio.CancelScope(shield=True):  # also of a task that has been cancelled
        await response.aclose()
