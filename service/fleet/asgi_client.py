"""AsgiClient: a front's client, as its server presents it: its request, and the way to answer it."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from service.errors import RequestTimeout, ServiceError
from service.fleet.exchange import Forwarded, Head
from service.http.middleware.request_id import request_id_of
from service.http.problems import problem

BODY_S = 30.0
"""How long a body may take to arrive."""
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


class ClientLeft(Exception):
    """The client closed the connection before its request was complete."""


class AsgiClient:
    """The client of one request, to be answered once."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def request_id(self) -> str:
        return request_id_of(self._scope)

    async def read(self, most: int) -> Forwarded:
        """The whole request. Of a body that is too large, what shows a replica that it is.

        Args:
            most: bytes of the longest body that any replica accepts.

        Raises:
            RequestTimeout: the body took too long.
            ClientLeft: the client left.
        """
        try:
            async with asyncio.timeout(BODY_S):
                body = await self._read_body(most)
        except TimeoutError:
            raise RequestTimeout("the body took too long to arrive") from None
        return _forwarded(self._scope, self.request_id, body)

    async def leaves(self) -> None:
        """Return when the client has left; call it after `read`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, head: Head) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": head.status,
                "headers": [(name.lower(), value) for name, value in head.headers],
            }
        )

    async def write(self, body: bytes, *, last: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def send_json(self, content: object) -> None:
        """A whole answer."""
        body = json.dumps(content).encode()
        length = str(len(body)).encode()
        await self.start(
            Head(200, ((b"content-type", b"application/json"), (b"content-length", length)))
        )
        await self.write(b"" if self._scope["method"] == "HEAD" else body, last=True)

    async def send_problem(self, error: ServiceError) -> None:
        """A whole answer that is an error."""
        answer = problem(error, self.request_id, self._scope["path"])
        await self.start(Head(answer.status_code, tuple(answer.raw_headers)))
        await self.write(bytes(answer.body), last=True)

    async def _read_body(self, most: int) -> bytes:
        announced = Headers(scope=self._scope).get("content-length", "0")
        if self._scope["method"] in BODILESS or not announced.isdigit() or int(announced) > most:
            return b""
        chunks, size, more = [], 0, True
        while more and size <= most:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
        return b"".join(chunks)[: most + 1]


class MissingModel:
    """A client that named a model that is not served: a replica's 404 becomes one that names them all.

    A replica sees the request first, so that it can refuse it for other reasons.
    """

    def __init__(self, client: AsgiClient, error: ServiceError) -> None:
        self._client = client
        self._error = error
        self._replaced = False

    async def start(self, head: Head) -> None:
        self._replaced = head.status == HTTPStatus.NOT_FOUND
        if self._replaced:
            await self._client.send_problem(self._error)
        else:
            await self._client.start(head)

    async def write(self, body: bytes, *, last: bool) -> None:
        if not self._replaced:
            await self._client.write(body, last=last)


def _forwarded(scope: Scope, request_id: str, body: bytes) -> Forwarded:
    others = [(name, value) for name, value in scope["headers"] if name != b"x-request-id"]
    path = scope["path"]
    return Forwarded(
        method=scope["method"],
        path=path,
        raw_path=scope.get("raw_path") or path.encode(),
        query=scope.get("query_string", b""),
        headers=(*others, (b"x-request-id", request_id.encode())),
        body=body,
        scheme=scope.get("scheme", "http"),
        http_version=scope.get("http_version", "1.1"),
        client=_address(scope.get("client")),
        server=_address(scope.get("server")),
    )


def _address(pair: object) -> tuple[str, int] | None:
    match pair:
        case [str(host), int(port)]:
            return host, port
        case _:
            return None
