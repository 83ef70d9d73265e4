"""Forwarded: the client and the scheme that a trusted proxy reports."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.client_address import Network, client_behind, is_in, parse_address

SCHEMES = ("http", "https")


class Forwarded:
    """Reads X-Forwarded-For and X-Forwarded-Proto, from trusted peers alone."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer, port = scope.get("client") or ("", 0)
        if scope["type"] == "http" and is_in(parse_address(peer), self._trusted):
            headers = Headers(scope=scope)
            client = client_behind(peer, headers.getlist("x-forwarded-for"), self._trusted)
            scope["client"] = (client, port if client == peer else 0)
            scheme = headers.get("x-forwarded-proto", "").strip().lower()
            if scheme in SCHEMES:
                scope["scheme"] = scheme
        await self._app(scope, receive, send)
