"""Dispatch: one request on its way to a replica, and to another one if that is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol

from service.errors import DeadlinePassed, ServiceError, Unavailable
from service.fleet.asgi_call import EVENTS
from service.fleet.exchange import Forwarded, Head, Message, Part, Taken
from service.fleet.sending.continuation import Continuation, Event, EventSplitter, error_event
from service.fleet.sending.resending import Resending, Setback
from service.http.problems import problem

LATE_S = 5.0
"""How long past the deadline a replica may take to say that it has passed."""
RETRY_AFTER_S = 5
BEYOND_S = 3600.0
"""The deadline of what is no request for pictures: pages, lists, metrics."""


class ReplicaLost(Exception):
    """The replica died, or cannot be reached, before its answer was complete."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A request, its work, and the replicas that it should not go to if there are others.

    ``row_steps`` are those of all its ``images``.
    """

    request: Forwarded
    row_steps: int = 0
    images: int = 1
    avoid: frozenset[str] = frozenset()


class Replicas(Protocol):
    """The replicas of one model."""

    def send(self, errand: Errand) -> AsyncGenerator[Message, None]:
        """Send a request to one of them. Closing the generator cancels the request.

        Raises:
            ReplicaLost: its replica died.
        """

    def has_others(self, than: frozenset[str]) -> bool:
        """Whether there is a replica besides these."""


class Client(Protocol):
    """Who asked, and gets the answer."""

    async def start(self, head: Head) -> None: ...

    async def write(self, body: bytes, *, last: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """When a request arrived, on the clock of `time.monotonic`, and how long it may take.

    ``wait_s`` is how long it may wait for a replica that takes it.
    """

    arrived: float
    timeout_s: float = BEYOND_S
    wait_s: float = 30.0


class _Failed(Exception):
    """A try that gave no answer, or one that is no answer while there are other replicas."""

    def __init__(self, setback: Setback, head: Head | None = None, body: bytes = b"") -> None:
        super().__init__(setback.value)
        self.setback = setback
        self.head = head
        self.body = body


class Dispatch:
    """Sends a request, again if need be; its client gets one answer.

    Answers are held back until they are complete, so that nothing of a try that fails is seen. Event
    streams are passed on as they come, and continued.

    Args:
        on_setback: called whenever a try failed and the request is sent again.
    """

    def __init__(
        self,
        replicas: Replicas,
        errand: Errand,
        client: Client,
        *,
        request_id: str,
        terms: Terms,
        on_setback: Callable[[Setback], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = replicas
        self._errand = errand
        self._client = client
        self._request_id = request_id
        self._terms = terms
        self._on_setback = on_setback
        self._clock = clock
        self._resending = Resending(terms.arrived + terms.timeout_s)
        self._continuation = Continuation()
        self._streaming = False

    async def run(self) -> None:
        """Answer the client. Cancelling it cancels the request."""
        try:
            async with asyncio.timeout(self._left_s + LATE_S):
                await self._until_answered()
        except TimeoutError:
            await self._fail(
                DeadlinePassed("the request's deadline passed, and no replica said so")
            )

    async def _until_answered(self) -> None:
        while True:
            try:
                return await self._try()
            except _Failed as failed:
                if not self._may_resend(failed.setback):
                    return await self._give_up(failed)
            self._continuation.restart()

    def _may_resend(self, setback: Setback) -> bool:
        others = self._replicas.has_others(frozenset(self._resending.tried))
        again = self._resending.allows(setback, self._clock(), others=others)
        if again:
            self._on_setback(setback)
        return again

    async def _give_up(self, failed: _Failed) -> None:
        if failed.head is None:
            text = "the replica that had this request was lost"
            await self._fail(Unavailable(text, retry_after_s=RETRY_AFTER_S))
        else:
            await self._finish(failed.head, failed.body)

    async def _try(self) -> None:
        """Send it once.

        Raises:
            _Failed: this was not the answer, or there is one that might be better.
        """
        try:
            async with aclosing(self._replicas.send(self._next_errand())) as messages:
                if await self._taken(messages):
                    await self._pass_on(messages)
                    return
        except ReplicaLost:
            raise _Failed(Setback.LOST) from None
        if self._left_s > 0:
            await self._fail(Unavailable("no replica is ready", retry_after_s=RETRY_AFTER_S))
        else:
            await self._fail(DeadlinePassed("the deadline passed before a replica was ready"))

    @property
    def _left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._resending.deadline - self._clock())

    def _next_errand(self) -> Errand:
        elapsed_s = max(0.0, self._clock() - self._terms.arrived)
        return replace(
            self._errand,
            request=replace(self._errand.request, elapsed_s=elapsed_s),
            avoid=frozenset(self._resending.tried),
        )

    async def _taken(self, messages: AsyncGenerator[Message, None]) -> bool:
        """Wait for a replica to take it, but not for longer than the terms say."""
        try:
            first = await asyncio.wait_for(anext(messages), min(self._terms.wait_s, self._left_s))
        except TimeoutError:
            return False
        except StopAsyncIteration:
            raise ReplicaLost from None
        assert isinstance(first, Taken), "this is a bug: the first message is a Taken"
        self._resending.tried.add(first.replica)
        return True

    async def _pass_on(self, messages: AsyncGenerator[Message, None]) -> None:
        head, body, splitter = None, b"", EventSplitter()
        async for message in messages:
            if isinstance(message, Head):
                head = message
                if _is_stream(head) and not self._streaming:
                    self._streaming = True
                    await self._client.start(head)
            elif isinstance(message, Part):
                assert head is not None, "this is a bug: the head comes first"
                if _is_stream(head):
                    for event in splitter.feed(message.body):
                        await self._pass_on_event(event)
                else:
                    body += message.body
                if message.last:
                    return await self._complete(head, body)
        raise ReplicaLost

    async def _pass_on_event(self, event: Event) -> None:
        if event.lost:
            raise _Failed(Setback.UNAVAILABLE, _NO_HEAD, event.problem)
        if self._continuation.is_new(event):
            await self._client.write(event.raw, last=False)

    async def _complete(self, head: Head, body: bytes) -> None:
        if _is_stream(head):
            return await self._client.write(b"", last=True)
        setback = _setback_in(head, body)
        if setback is not None:
            raise _Failed(setback, head, body)
        await self._finish(head, body)

    async def _finish(self, head: Head, body: bytes) -> None:
        """Send a whole answer; where a stream has begun, as its last event."""
        if self._streaming:
            await self._client.write(error_event(body), last=True)
        else:
            await self._client.start(head)
            await self._client.write(body, last=True)

    async def _fail(self, error: ServiceError) -> None:
        answer = problem(error, self._request_id, self._errand.request.path)
        await self._finish(Head(answer.status_code, tuple(answer.raw_headers)), bytes(answer.body))


_NO_HEAD = Head(200, ())
"""Of an error in a stream, whose head has been sent."""


def _is_stream(head: Head) -> bool:
    return head.header(b"content-type").startswith(EVENTS)


def _setback_in(head: Head, body: bytes) -> Setback | None:
    """What an answer says of its replica, if another one might do better."""
    if head.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Setback.UNAVAILABLE
    if head.status != HTTPStatus.TOO_MANY_REQUESTS:
        return None
    try:
        told = json.loads(body)
    except ValueError:  # of a HEAD
        return None
    kind = told.get("type") or told.get("error", {}).get("code")
    return Setback.FULL if kind in ("urn:dit-service:queue-full", "queue_full") else None
