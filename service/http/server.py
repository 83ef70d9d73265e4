"""Server: uvicorn, with a shutdown that lets the engine finish first."""

from __future__ import annotations

import asyncio
import errno
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.flow_control import CLOSE_HEADER

from service.engine.engine import Engine
from service.http.connections.connection import Connection
from service.http.connections.descriptors import room_for_connections
from service.http.connections.limits import ConnectionLimits
from service.http.connections.record import ConnectionRecord
from service.http.connections.table import SPARE, ConnectionTable
from service.http.context import Context
from service.http.metrics_port.listener import MAX_CONNECTIONS, MetricsPort
from service.listening import BACKLOG
from service.signals import stop_signals

CLOSE_CONNECTIONS_S = 10
LAST_TASKS_S = 5
ACCEPTS_AT_ONCE = 4
"""asyncio accepts so many before it looks at those it has; beyond the limit, others give way first."""

log = structlog.get_logger()
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ROOM_AT_ONCE = 8


class Server(uvicorn.Server):
    """Keeps answering while the engine drains, so that probes see it, and ends with the engine.

    Args:
        lame_duck_s: how long requests are still admitted after a signal, while /readyz says 503.
        metrics_port: listens for scrapes as long as the service runs, and while it stops.
        on_hangup: called on SIGHUP in the main thread, which then stops nothing.
    """

    def __init__(
        self,
        app: FastAPI,
        engine: Engine,
        *,
        host: str,
        port: int,
        limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - it is frozen
        lame_duck_s: float = 0.0,
        metrics_port: MetricsPort | None = None,
        on_hangup: Callable[[], None] | None = None,
    ) -> None:
        context = app.state.context
        assert isinstance(context, Context), "this is a bug: create_app puts it there"
        self._record = ConnectionRecord(context.metrics)
        self._table = ConnectionTable(limits.max_connections)
        protocol = functools.partial(
            Connection, limits=limits, table=self._table, record=self._record
        )
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=protocol,  # type: ignore[arg-type]
                loop="asyncio",
                backlog=ACCEPTS_AT_ONCE,
                ws="none",
                proxy_headers=False,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]
                timeout_graceful_shutdown=CLOSE_CONNECTIONS_S + LAST_TASKS_S,
            )
        )
        self._engine = engine
        self._lame_duck_s = lame_duck_s
        self._metrics_port = metrics_port
        self._on_hangup = on_hangup
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        engine.ended.add_done_callback(lambda _: self.leave())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_loop_error)
        await super().startup(sockets)
        self._lengthen_backlog()
        self._fit_descriptors()
        if self._metrics_port is not None:
            await self._metrics_port.open()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way; after a while, cut it."""
        asyncio.get_running_loop().call_later(CLOSE_CONNECTIONS_S, self._cut_all)
        await super().shutdown(sockets)
        if self._metrics_port is not None:
            await self._metrics_port.close()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn has it: ten times a second."""
        ends = await super().on_tick(counter)
        if self._metrics_port is not None:
            self._metrics_port.set_headers(self.server_state.default_headers)
        return ends

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does it, for every signal that stops a service."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in stop_signals()}
        on_hangup = self._on_hangup
        if on_hangup is not None:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: on_hangup())
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain. A second interrupt ends at once; a repeated SIGTERM, as make sends, does nothing."""
        if self._stopping and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
        elif not self._stopping:
            self._stopping = True
            # In a thread of its own: the interrupted one may hold the lock that drain needs.
            lame_duck_s = 0.0 if sig == signal.SIGINT else self._lame_duck_s
            threading.Thread(target=self._stop, args=(lame_duck_s,), name="drain").start()

    def leave(self) -> None:
        """Close idle connections, wait for the others, and return from `run`."""
        self.should_exit = True

    def _fit_descriptors(self) -> None:
        for_metrics = 0 if self._metrics_port is None else MAX_CONNECTIONS + SPARE
        room = max(1, room_for_connections() - SPARE - for_metrics)
        if room < self._table.limit:
            text = "the limit of open files allows fewer connections than DIT_MAX_CONNECTIONS"
            log.warning(text, allowed=room)
            self._table.limit = room

    def _lengthen_backlog(self) -> None:
        for listener in (each for server in self.servers for each in server.sockets):
            with listener.dup() as duplicate:
                duplicate.listen(BACKLOG)

    def _stop(self, lame_duck_s: float) -> None:
        if lame_duck_s and self._engine.announce_stop():
            # Whoever keeps a connection is to open the next one elsewhere; from the next second on.
            self.config.encoded_headers.append(CLOSE_HEADER)
            futures.wait([self._engine.ended], lame_duck_s)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._close_idle)
        self._engine.drain()

    def _close_idle(self) -> None:
        """A request on one of them would get 503."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and connection.idle:
                connection.shutdown()

    def _cut_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Without descriptors, asyncio reports every try to accept, several in a second."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in EXHAUSTED:
            if self._record.no_descriptors():
                for _ in range(ROOM_AT_ONCE):
                    self._table.make_room()
        else:
            loop.default_exception_handler(context)
