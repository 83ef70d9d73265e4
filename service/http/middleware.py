"""RequestContext: what every request gets: an id, a body limit, a metric and a line in the log."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge, ClientGone, ServiceError
from service.http.problems import problem
from service.metrics import Metrics

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
QUIET = frozenset({"/livez", "/readyz", "/metrics"})
OUTCOMES = {429: "full", 499: "cancelled", 503: "unavailable", 504: "timeout"}

log = structlog.get_logger()


class RequestContext:
    """ASGI middleware around the whole application.

    A route whose answer begins before it knows how it ends, an event stream, says the status it
    came to in ``request.state.status``. One that takes larger bodies says how large in
    ``request.state.max_body_bytes``, before it reads.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, _request_id(headers))
        state = scope.setdefault("state", {})
        state |= {"request_id": answer.request_id, "max_body_bytes": self._max_body_bytes}
        limited = _Limited(receive, state, headers)
        try:
            await self._app(scope, limited, answer)
        except ClientDisconnect:
            answer.status = ClientGone.status
        except Exception:
            log.exception("unexpected error", request_id=answer.request_id)
            await _fail(scope, receive, answer)
        finally:
            self._observe(scope, answer)

    def _observe(self, scope: Scope, answer: _Answer) -> None:
        route, seconds = _route(scope), answer.seconds
        status = scope["state"].get("status") or answer.status
        if not answer.complete and status < HTTPStatus.BAD_REQUEST:
            status = ClientGone.status
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
    """Sends on what the application sends, with the headers that every answer has."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._began = time.perf_counter()
        self.request_id = request_id
        self.status = 0  # until the answer has begun
        self.complete = False

    @property
    def seconds(self) -> float:
        """Since the request's head came in."""
        return time.perf_counter() - self._began

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            stages = headers.get("Server-Timing")
            total = f"total;dur={self.seconds * 1e3:.1f}"
            headers["Server-Timing"] = f"{stages}, {total}" if stages else total
        await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body")


class _Limited:
    """Receives a body up to the limit that the request's state gives.

    Raises:
        BodyTooLarge: more is announced, or came.
    """

    def __init__(self, receive: Receive, state: Mapping[str, int], headers: Headers) -> None:
        self._receive = receive
        self._state = state
        self._received = 0
        self._announced = int(headers.get("content-length", 0))  # digits, as the server has seen to

    async def __call__(self) -> Message:
        # before the first byte: a client that expects 100-continue need not send any
        self._check(self._announced)
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._check(self._received)
        return message

    def _check(self, size: int) -> None:
        limit = self._state["max_body_bytes"]
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")


async def _fail(scope: Scope, receive: Receive, answer: _Answer) -> None:
    """Answer an unexpected error, or leave an answer that has begun as it is: cut off."""
    if not answer.status:
        failure = ServiceError("an unexpected error; the log has it under this request id")
        await problem(failure, answer.request_id)(scope, receive, answer)
    answer.status = ServiceError.status


def _request_id(headers: Headers) -> str:
    """The client's own id where it is a sound one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The path as the routes have it, so that what clients make up is no label."""
    route = getattr(scope.get("route"), "path", None)
    return route if isinstance(route, str) else "unmatched"


def _outcome(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return "ok"
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return OUTCOMES.get(status, "failed" if failed else "invalid")
