"""MetricsPort: listens for scrapes in the service's event loop, from its start to its very end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from service.http.connections.connection import Connection
from service.http.connections.limits import ConnectionLimits
from service.http.connections.record import ConnectionRecord
from service.http.connections.table import ConnectionTable

MAX_CONNECTIONS = 64
"""At once, without the spare ones: far more than scrape, and no share of the main port's."""

CLOSE_S = 1.0
"""How long a scrape that is under way may take when the service ends."""

POLL_S = 0.02


class MetricsPort:
    """Sockets whose connections are none of the main port's, and are closed after them.

    Args:
        app: answers.
        sockets: where to listen; they are open already.
        limits: how long a client may take, as on the main port; not how many there may be.
        record: told what the application does not see.
    """

    def __init__(
        self,
        app: FastAPI,
        sockets: Sequence[socket.socket],
        *,
        limits: ConnectionLimits,
        record: ConnectionRecord,
    ) -> None:
        self._state = ServerState()
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        config = uvicorn.Config(
            app,
            loop="asyncio",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]
        )
        config.load()
        self._connection = partial(
            Connection,
            config,
            self._state,
            {},
            limits=limits,
            table=ConnectionTable(MAX_CONNECTIONS),
            record=record,
        )

    async def open(self) -> None:
        """Answer from now on."""
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            self._servers.append(await loop.create_server(self._connection, sock=one))

    def set_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """The headers of every answer: the time, which the server keeps."""
        self._state.default_headers = headers

    async def close(self) -> None:
        """Finish what is under way, and close."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        ends = asyncio.get_running_loop().time() + CLOSE_S
        while self._state.connections and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(POLL_S)
        for connection in list(self._state.connections):
            connection.transport.abort()
