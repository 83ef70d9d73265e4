"""python -m tests.drills.soak.leaky: the service with small leaks, the control that has to be caught.

Of every request four kibibytes stay, of every tenth a descriptor and of every twentieth a thread.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service import __main__ as entry
from service.http.app import create_app
from tests.drills.services.trimming import Trimming

KEPT_BYTES = 4096
PER_DESCRIPTOR = 10
PER_THREAD = 20


class Leak:
    """Middleware that forgets to let go."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: list[bytearray] = []
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._keep(next(self._count))
        await self._app(scope, receive, send)

    def _keep(self, count: int) -> None:
        self._kept.append(bytearray(b"x" * KEPT_BYTES))
        if count % PER_DESCRIPTOR == 0:
            os.open(os.devnull, os.O_RDONLY)
        if count % PER_THREAD == 0:
            threading.Thread(target=threading.Event().wait, name="kept", daemon=True).start()


def main(arguments: list[str]) -> int:
    def create_leaky(*given: object, **named: object) -> FastAPI:
        app = create_app(*given, **named)  # type: ignore[arg-type]
        app.add_middleware(Leak)
        app.add_middleware(Trimming)
        return app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.launch.create_app", create_leaky)
        return entry.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
