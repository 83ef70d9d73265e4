"""BodyLimit: refuses bodies that are larger than the route allows."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge


class BodyLimit:
    """A route that accepts larger bodies sets ``request.state.max_body_bytes`` before it reads."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            state["max_body_bytes"] = self._max_body_bytes
            receive = _Limited(receive, state, Headers(scope=scope))
        await self._app(scope, receive, send)


class _Limited:
    """Receives a body up to the limit in the request's state.

    Raises:
        BodyTooLarge: more was announced, or arrived.
    """

    def __init__(self, receive: Receive, state: Mapping[str, int], headers: Headers) -> None:
        self._receive = receive
        self._state = state
        self._received = 0
        self._announced = int(headers.get("content-length", 0))  # the server has checked it

    async def __call__(self) -> Message:
        # Before the first byte, so that a client that expects 100-continue need not send any.
        self._check(self._announced)
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._check(self._received)
        return message

    def _check(self, size: int) -> None:
        limit = self._state["max_body_bytes"]
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
