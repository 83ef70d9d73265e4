"""RequestId: gives every request an id, for the answer's header and the log lines."""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

VALID_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestId:
    """Sets ``request.state.request_id``: the client's X-Request-Id if it is valid, else a new id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        new_id = given if VALID_ID.fullmatch(given) else uuid.uuid4().hex
        # The server may have answered already, if what came with the head is malformed.
        request_id = scope.setdefault("state", {}).setdefault("request_id", new_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        with bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)
