"""Connection: uvicorn's HTTP/1.1 protocol, with time limits and answers for half-closed clients."""

from __future__ import annotations

import asyncio
import enum
import socket
import uuid
from typing import Any, cast

import h11
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from service.errors import (
    HeadersTooLarge,
    MalformedRequest,
    RequestTimeout,
    ServiceError,
    Unavailable,
)
from service.http.connections.answer_start import AnswerStart
from service.http.connections.limits import ConnectionLimits
from service.http.connections.record import ConnectionRecord
from service.http.connections.table import ConnectionTable
from service.http.middleware.request_id import request_id_of
from service.http.middleware.security_headers import SECURITY_HEADERS
from service.http.problems import problem

LARGEST_HEAD = 32_768
"""Bytes of a head that are kept while it arrives: enough for all that `refuse_large_heads` lets in."""

FIRST_PROBE_S = 0.02
PROBE_FACTOR = 4
SLOWEST_BYTES_PER_S = 1024
RETRY_AFTER_S = 5


DEAD_AFTER = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds of silence, seconds between probes, probes without a reply; as far as the system has them."""


def notice_dead_peer(transport: asyncio.Transport) -> None:
    """Have a connection end whose other side has vanished without closing it."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in DEAD_AFTER.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Turn(enum.Enum):
    """What a connection waits for."""

    HEAD = "request head"
    BODY = "request body"
    ANSWER = "our answer"
    NOTHING = "another request, perhaps"


class Connection(H11Protocol):
    """Closes what takes too long, and answers a client that has only closed its sending end.

    It sets ``request.state.crowded``, and ``status`` for a request that it refuses itself. An answer
    in parts may set ``filler`` to bytes that do no harm between two parts.

    Args:
        limits: how long the client may take.
        table: the connections that it is one of.
        record: told what the application does not see.
    """

    conn: AnswerStart

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        table: ConnectionTable,
        record: ConnectionRecord,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = AnswerStart(LARGEST_HEAD)
        self._limits = limits
        self._table = table
        self._record = record
        self._turn = Turn.NOTHING
        self._half_closed = False
        self._late: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._probing: asyncio.TimerHandle | None = None

    # What asyncio and uvicorn call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        notice_dead_peer(transport)
        if self._table.enter(self):
            self._take_turn(Turn.HEAD)

    def data_received(self, data: bytes) -> None:
        if self._turn is Turn.NOTHING and not data.strip(b"\r\n"):
            return  # empty lines do not begin a request, nor make an idle connection last longer
        super().data_received(data)
        self._take_turn(self._whose_turn())

    def handle_events(self) -> None:
        before = self.scope
        super().handle_events()
        if self.scope is not before:  # the application has not run yet
            self.scope["state"]["crowded"] = self._table.crowded

    def _should_upgrade(self) -> bool:
        return False  # what asks for another protocol is answered in this one (RFC 9110, 7.8)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for an answer that is due; else close it."""
        due = self._turn is Turn.ANSWER
        if due and not self._half_closed:  # asyncio calls again after a pause
            self._half_closed = True
            self._probe(FIRST_PROBE_S)
        return due

    def send_400_response(self, msg: str) -> None:
        if self.conn.too_large:
            self._refuse(HeadersTooLarge(f"the head has more than {LARGEST_HEAD} bytes"))
        else:
            self._refuse(MalformedRequest("the request is not valid HTTP/1.1"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._take_turn(self._whose_turn())
        if self._half_closed and self._turn is not Turn.ANSWER:
            self.transport.close()
        if self.unsent:
            self._watch_sending()

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.leave(self)
        for timer in (self._late, self._sending, self._probing, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: close, or refuse a request that has not arrived, or finish it."""
        if self._turn is Turn.BODY:
            self._refuse(Unavailable("the service is stopping", retry_after_s=RETRY_AFTER_S))
        else:
            super().shutdown()

    @property
    def idle(self) -> bool:
        """Whether it waits for another request, of which nothing has come."""
        return self._turn is Turn.NOTHING

    # What the table calls.

    @property
    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def give_way(self) -> None:
        self._record.cut("displaced")
        if self._turn is Turn.BODY:
            self._refuse(Unavailable("too many connections", retry_after_s=RETRY_AFTER_S))
        else:
            self.transport.close()

    def cut(self) -> None:
        self._record.cut("refused")
        self.transport.abort()

    def give_up(self) -> None:
        self._record.cut("slow reader")
        self.transport.abort()

    # Whose turn it is, and until when.

    def _whose_turn(self) -> Turn:
        their_state = self.conn.their_state
        if their_state is h11.SEND_BODY:
            return Turn.BODY
        if their_state is h11.IDLE:
            begun = self.scope is None or self.conn.trailing_data[0]
            return Turn.HEAD if begun else Turn.NOTHING
        unanswered = self.cycle is not None and not self.cycle.response_complete
        return Turn.ANSWER if unanswered else Turn.NOTHING

    def _take_turn(self, turn: Turn) -> None:
        if turn is self._turn or self.transport.is_closing():
            return
        self._turn = turn
        if self._late is not None:
            self._late.cancel()
        limit_s = {Turn.HEAD: self._limits.head_s, Turn.BODY: self._limits.body_s}.get(turn)
        self._late = self.loop.call_later(limit_s, self._on_late) if limit_s is not None else None
        if turn is Turn.NOTHING and self.timeout_keep_alive_task is None:
            # The end of a body whose answer came first: uvicorn has put its timer away.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        (self._table.works if turn is Turn.ANSWER else self._table.waits)(self)

    def _on_late(self) -> None:
        self._record.cut(f"slow {self._turn.value}")
        if self._turn is Turn.HEAD and not self.conn.trailing_data[0]:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(RequestTimeout(f"the {self._turn.value} took too long to arrive"))

    def _watch_sending(self) -> None:
        """See to it that the client takes what is ready."""
        self._table.sends(self)
        if self._sending is None:
            taken, unsent = self.conn.produced - self.unsent, self.unsent
            wait_s = self._limits.send_s
            least = min(unsent, SLOWEST_BYTES_PER_S * wait_s)
            self._sending = self.loop.call_later(wait_s, self._check_sending, taken + least)

    def _check_sending(self, least: float) -> None:
        self._sending = None
        if not self.unsent:
            return
        if self.conn.produced - self.unsent < least:
            self.give_up()
        else:
            self._watch_sending()

    def _probe(self, next_s: float) -> None:
        """Write what does no harm: if the client is gone, the next write fails."""
        if self.transport.is_closing() or self._turn is not Turn.ANSWER:
            return
        self.transport.write(self._harmless())
        self._probing = self.loop.call_later(next_s, self._probe, next_s * PROBE_FACTOR)

    def _harmless(self) -> bytes:
        if self.unsent:  # the operating system still tries to send, which is enough
            return b""
        if not self.cycle.response_started:
            return self.conn.next_byte()
        filler = self.scope["state"].get("filler")
        return self.conn.send(h11.Data(data=filler)) or b"" if filler else b""

    def _refuse(self, error: ServiceError) -> None:
        """Close; answer first, in the application's place, unless an answer has begun."""
        if self.conn.our_state is h11.IDLE:
            request_id = uuid.uuid4().hex
            self._record.refused(error.status, request_id)
            self._answer(error, request_id)
        elif self.conn.our_state is h11.SEND_RESPONSE:
            self.scope["state"]["status"] = error.status
            # The application may not have begun.
            scope = cast(Scope, self.scope)
            self._answer(error, request_id_of(scope), scope["path"])
            self.cycle.disconnected = True  # what the application still sends is dropped
            self.cycle.message_event.set()
        self.transport.close()

    def _answer(self, error: ServiceError, request_id: str, path: str = "") -> None:
        response = problem(error, request_id, path)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", request_id.encode()),
            CLOSE_HEADER,
        ]
        phrase = STATUS_PHRASES[response.status_code]
        start = h11.Response(status_code=response.status_code, headers=headers, reason=phrase)
        for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
