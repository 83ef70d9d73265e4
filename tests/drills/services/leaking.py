"""python -m tests.drills.services.leaking: the service, but it keeps some memory if a request says so.

A request's header X-Leak says how many KiB. What a drill says about memory, it has to say of this one with leaks, too.
"""

from __future__ import annotations

import sys

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

import service.launch
from service.__main__ import main
from service.http.app import create_app
from tests.drills.services.trimming import Trimming

LEAK_KIB = 4
LEAK = b"X-Leak: %d" % LEAK_KIB
LARGE_LEAK = b"X-Leak: %d" % (16 * LEAK_KIB)


class Leak:
    """Keeps what nobody asks for again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-leak":
                self._kept.append(b"x" * (int(value) * 1024))
        await self._app(scope, receive, send)


def leaking_app(*given: object, **named: object) -> FastAPI:
    app = create_app(*given, **named)  # type: ignore[arg-type]
    app.add_middleware(Leak)
    app.add_middleware(Trimming)
    return app


if __name__ == "__main__":
    service.launch.create_app = leaking_app  # type: ignore[attr-defined]
    sys.exit(main(sys.argv[1:]))
