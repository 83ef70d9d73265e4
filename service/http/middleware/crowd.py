"""Crowd: when there are too many connections, answers probes alone."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Unavailable
from service.http.problems import problem

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
RETRY_AFTER_S = 5


class Crowd:
    """The server sets ``request.state.crowded``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] not in PROBES:
            state = scope.get("state", {})
            if state.get("crowded"):
                error = Unavailable("too many connections", retry_after_s=RETRY_AFTER_S)
                app = problem(error, state["request_id"], scope["path"])
                app.headers["Connection"] = "close"
        await app(scope, receive, send)
