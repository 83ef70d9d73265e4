"""A hand-written HTTP server that misbehaves as told: one connection per request, one script for each."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Script = Callable[[socket.socket], None]
"""What is done with a connection after its request has been read; then it is closed."""

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived, and when."""

    line: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def fields(self) -> dict[str, object]:
        fields: dict[str, object] = json.loads(self.body)
        return fields


@dataclass(slots=True, eq=False)
class Misbehaving:
    """The server's address and what it has received. The last script repeats."""

    url: str
    scripts: list[Script]
    received: list[Received] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client hangs up while a `stall` waits."""

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        with connection, suppress(OSError):
            request = _read_request(connection)
            if request is None:
                return
            script = self.scripts[min(len(self.received), len(self.scripts) - 1)]
            self.received.append(request)
            script(connection)
            if script in (stall, silence_after_head):
                self.left.set()


@contextmanager
def misbehaving(*scripts: Script) -> Iterator[Misbehaving]:
    """Serve on a free port of the loopback until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Misbehaving(f"http://127.0.0.1:{listener.getsockname()[1]}", list(scripts))
        threading.Thread(target=server.serve, args=(listener,), daemon=True).start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)


def respond(
    status: int,
    body: object = b"",
    *,
    content_type: str = "application/json",
    length: int | None = None,
    **headers: str,
) -> Script:
    """A whole answer; with ``length`` it announces another length than it has."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "Content-Type": content_type,
        "Content-Length": str(len(content) if length is None else length),
        "Connection": "close",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return raw(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + content)


def problem(status: int, **headers: str) -> Script:
    """An error as the service sends it."""
    members = {
        "type": "about:blank",
        "title": "Some problem",
        "status": status,
        "detail": "so it is",
    }
    kind = "application/problem+json"
    return respond(status, members, content_type=kind, length=None, **headers)


def raw(*parts: bytes, pause_s: float = 0.0) -> Script:
    """These bytes, with pauses between the parts; then the connection is closed."""

    def script(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause_s)

    return script


def reset(connection: socket.socket) -> None:
    """The connection is reset without an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(_: socket.socket) -> None:
    """The connection is closed without an answer."""


def stall(connection: socket.socket) -> None:
    """Nothing, until the client leaves."""
    while connection.recv(4096):
        pass


def silence_after_head(connection: socket.socket) -> None:
    """The head of an event stream, and nothing more until the client leaves."""
    connection.sendall(STREAM_HEAD)
    stall(connection)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    b"X-Request-Id: abc\r\n\r\n"
)


def _read_request(connection: socket.socket) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Received(line, headers, body, time.monotonic())
