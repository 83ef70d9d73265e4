"""Guarding: lets only those requests in whose head passes every guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Guard = Callable[[Scope, Headers], None]
"""Looks at a request's head, and raises a ServiceError to refuse it."""


class Guarding:
    def __init__(self, app: ASGIApp, guards: Sequence[Guard]) -> None:
        self._app = app
        self._guards = guards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            for guard in self._guards:
                guard(scope, headers)
        await self._app(scope, receive, send)
