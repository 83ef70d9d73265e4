"""Bytes on a connection to a running service."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

import httpx

from tests.support.requests import PICTURE
from tests.support.services import PATIENCE_S, Running


def connect(service: Running, data: bytes = b"") -> socket.socket:
    """A new connection on which ``data`` has been sent."""
    url = httpx.URL(service.url)
    connection = socket.create_connection((url.host, url.port or 0), timeout=PATIENCE_S)
    connection.sendall(data)
    return connection


def post(
    body: Mapping[str, object] = PICTURE,
    *headers: str,
    path: str = "/generate",
    version: str = "1.1",
) -> bytes:
    """A whole POST request."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def read_all(connection: socket.socket) -> bytes:
    """What comes until the service closes the connection, however it does."""
    received = b""
    try:
        while data := connection.recv(65_536):
            received += data
    except ConnectionError:
        pass
    return received
