"""Trimming: a service that gives memory back when it is told to, so that what it holds is what it uses.

Without it a leak first fills what earlier requests have freed, and for thousands of requests nothing grows.
"""

from __future__ import annotations

import ctypes
import gc

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support.services import PATIENCE_S

HEADER = "X-Trim"


class Trimming:
    """Middleware: a request with this header gives freed memory back to the system first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._libc = ctypes.CDLL(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(name == HEADER.lower().encode() for name, _ in scope.get("headers", ())):
            gc.collect()
            self._libc.malloc_trim(0)
        await self._app(scope, receive, send)


def trim(url: str) -> None:
    """Have such a service give back the memory that it has freed."""
    headers = {HEADER: "1"}
    answer = httpx.get(f"{url}/livez", headers=headers, trust_env=False, timeout=PATIENCE_S)
    assert answer.status_code == 200
