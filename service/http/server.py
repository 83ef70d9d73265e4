"""Server: uvicorn, with a shutdown that lets the engine finish first."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from service.engine.engine import Engine

CLOSE_CONNECTIONS_S = 10


class Server(uvicorn.Server):
    """Keeps answering while the engine drains, so that probes see it, and ends with the engine."""

    def __init__(self, app: ASGIApp, engine: Engine, *, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
            )
        )
        self._engine = engine
        self._stopping = False
        engine.ended.add_done_callback(lambda _: self.leave())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain. A second interrupt ends at once; a repeated SIGTERM, as make sends, does nothing."""
        if self._stopping and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
        elif not self._stopping:
            self._stopping = True
            # In a thread of its own: the interrupted one may hold the lock that drain needs.
            threading.Thread(target=self._engine.drain, name="drain").start()

    def leave(self) -> None:
        """Close idle connections, wait for the others, and return from `run`."""
        self.should_exit = True
