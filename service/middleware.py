"""RequestContext: what every request gets: an id, a body limit, a metric and a line in the log."""

from __future__ import annotations

import re
import time
import uuid
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge, ServiceError
from service.metrics import Metrics
from service.problems import problem

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
OUTCOMES = {404: "invalid", 429: "full", 499: "cancelled", 503: "unavailable", 504: "timeout"}

log = structlog.get_logger()


class RequestContext:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(Headers(scope=scope)))
        scope.setdefault("state", {})["request_id"] = answer.request_id
        began = time.perf_counter()
        try:
            await self._app(scope, _Limited(receive, self._max_body_bytes), answer)
        except Exception:
            log.exception("unexpected error", request_id=answer.request_id)
            if not answer.status:
                failure = ServiceError("an unexpected error; the log has it under this request id")
                await problem(failure, answer.request_id)(scope, receive, answer)
        finally:
            self._observe(scope, answer, time.perf_counter() - began)

    def _observe(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        status = answer.status or 499
        self._metrics.requests.labels(route, _outcome(status)).inc()
        self._metrics.request_duration.labels(route).observe(seconds)
        write = log.debug if route in QUIET else log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1e3, 1),
            request_id=answer.request_id,
        )


class _Answer:
    """Sends on what the application sends, with the request id among the headers."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0  # until the answer has begun

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self.request_id
        await self._send(message)


class _Limited:
    """Receives a body up to a limit.

    Raises:
        BodyTooLarge: more came.
    """

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._received = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            raise BodyTooLarge(f"the body is larger than {self._max_bytes} bytes")
        return message


def _request_id(headers: Headers) -> str:
    """The client's own id where it is a sound one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _outcome(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "ok"
    return OUTCOMES.get(
        status, "failed" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid"
    )
