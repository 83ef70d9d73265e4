"""AbsoluteTarget: reads a target in absolute form, as clients of a proxy send it."""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

ABSOLUTE = re.compile(rb"https?://([^/]+)(/.*)?", re.IGNORECASE)


class AbsoluteTarget:
    """Takes the path of http://host/path for the path, and its host for Host (RFC 9112, 3.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            absolute = ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
            if absolute is not None:
                host, path = absolute.groups()
                _direct(scope, host, path or (b"*" if scope["method"] == "OPTIONS" else b"/"))
        await self._app(scope, receive, send)


def _direct(scope: Scope, host: bytes, raw_path: bytes) -> None:
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    scope["headers"] = [(b"host", host), *others]
    scope["raw_path"], scope["path"] = raw_path, unquote(raw_path.decode("ascii"))
