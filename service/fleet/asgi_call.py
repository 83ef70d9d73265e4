"""AsgiCall: one forwarded request given to an ASGI application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Scope

from service.fleet.exchange import Forwarded, Head, Load, Part

EVENTS = b"text/event-stream"


class AsgiCall:
    """Runs the application and yields its answer.

    An answer is yielded whole, an event stream as it comes. Whoever stops iterating has left: the
    application is told so, as by a server whose client closed the connection.

    Args:
        load: the work at this replica, which every part reports.
    """

    def __init__(self, app: ASGIApp, request: Forwarded, load: Callable[[], Load]) -> None:
        self._app = app
        self._request = request
        self._load = load
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._left = asyncio.Event()
        self._body_read = False

    async def answer(self) -> AsyncGenerator[Head | Part, None]:
        """The head of the answer, then its parts.

        Raises:
            Exception: what the application raised.
        """
        running = asyncio.create_task(self._run())
        try:
            async for message in self._messages(running):
                yield message
            await running
        finally:
            self._left.set()
            if not running.done():
                running.add_done_callback(_retrieve)

    async def _run(self) -> None:
        try:
            await self._app(_scope_of(self._request), self._receive, self._sent.put)
        finally:
            await self._sent.put({"type": "end"})

    async def _messages(self, running: asyncio.Task[None]) -> AsyncGenerator[Head | Part, None]:
        head, body = None, b""
        while True:
            message = await self._sent.get()
            if message["type"] == "end":
                return
            if message["type"] == "http.response.start":
                head = Head(message["status"], tuple(message.get("headers", ())))
                yield head
                continue
            assert head is not None, "this is a bug: an ASGI answer begins with its start"
            body, last = body + message.get("body", b""), not message.get("more_body", False)
            if last or head.header(b"content-type").startswith(EVENTS):
                yield Part(body, last, self._load())
                body = b""

    async def _receive(self) -> Message:
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}


def _scope_of(request: Forwarded) -> Scope:
    state: dict[str, object] = {"elapsed_s": request.elapsed_s}
    if request.seed is not None:
        state["seed"] = request.seed
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version,
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": "",
        "headers": [*request.headers],
        "client": request.client,
        "server": request.server,
        "state": state,
    }


def _retrieve(task: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        task.exception()
