"""A forwarded request, as an application sees it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from starlette.types import Receive, Scope, Send

from service.fleet.asgi_call import AsgiCall
from service.fleet.exchange import Forwarded, Head, Load, Part
from tests.support.services import PATIENCE_S

REQUEST = Forwarded("POST", "/x", b"/x", b"a=1", ((b"host", b"h"),), b"body", seed=3, elapsed_s=0.5)
LOAD = Load(7, 1.0, ((0, 0), (0, 0), (1, 1)))


def call_of(app: object) -> AsgiCall:
    return AsgiCall(app, REQUEST, lambda: LOAD)  # type: ignore[arg-type]


async def answer_of(app: object) -> list[Head | Part]:
    async with asyncio.timeout(PATIENCE_S):
        return [message async for message in call_of(app).answer()]


def test_the_application_sees_the_request() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, await receive()))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    assert asyncio.run(answer_of(app)) == [Head(204, ()), Part(b"", True, LOAD)]
    ((scope, message),) = seen
    assert (scope["method"], scope["path"], scope["query_string"]) == ("POST", "/x", b"a=1")
    assert scope["state"] == {"seed": 3, "elapsed_s": 0.5}
    assert message == {"type": "http.request", "body": b"body", "more_body": False}


@pytest.mark.parametrize(
    ("kind", "parts"), [(b"image/png", [b"abc"]), (b"text/event-stream; x", [b"a", b"b", b"c"])]
)
def test_only_streams_come_in_parts(kind: bytes, parts: list[bytes]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for body in (b"a", b"b", b"c"):
            await send({"type": "http.response.body", "body": body, "more_body": body != b"c"})

    _, *sent = asyncio.run(answer_of(app))
    assert [part.body for part in sent if isinstance(part, Part)] == parts


def test_who_stops_reading_has_left() -> None:
    left = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left.append(await receive())

    async def ask() -> None:
        async with aclosing(call_of(app).answer()) as answer:
            await anext(answer)
        async with asyncio.timeout(PATIENCE_S):
            while not left:
                await asyncio.sleep(0)

    asyncio.run(ask())
    assert left == [{"type": "http.disconnect"}]


def test_what_the_application_raises_is_raised() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(answer_of(app))
