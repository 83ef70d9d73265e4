"""Observation: counts and times every request, and logs one line for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ClientGone
from service.http.keys.key_guard import key_of
from service.metrics import Metrics, exemplar

QUIET = frozenset({"/livez", "/readyz", "/metrics"})
OUTCOMES = {401: "unauthorized", 429: "full", 499: "cancelled", 503: "unavailable", 504: "timeout"}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Observed:
    """What a request came to: its route's template, its final status, and how metrics count it."""

    route: str
    status: int
    outcome: str


class Observation:
    """Adds the total to Server-Timing; when the answer has ended, observes its status and time.

    A route whose answer begins before its outcome is known, as an event stream does, puts the final
    status into ``request.state.status``. ``request.state.outcome`` says more than the status does, and
    ``request.state.rejection`` why API keys or their limits refused it.
    ``request.state.observed`` has what came of it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            self._observe(scope, answer)

    def _observe(self, scope: Scope, answer: _Answer) -> None:
        route, seconds = _route(scope), answer.seconds
        status = scope["state"].get("status") or answer.status
        if not answer.complete and status < HTTPStatus.BAD_REQUEST:
            status = ClientGone.status
        outcome = scope["state"].get("outcome") or outcome_of(status)
        scope["state"]["observed"] = Observed(route, status, outcome)
        self._metrics.requests.labels(route, outcome).inc()
        duration = self._metrics.request_duration.labels(route, outcome)
        duration.observe(seconds, exemplar(scope["state"].get("request_id", "")))
        key = key_of(scope)
        self._count_key(key.name if key is not None else "", outcome, scope["state"])
        write = log.debug if route in QUIET else log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1e3, 1),
            **({"key": key.name} if key is not None else {}),
        )

    def _count_key(self, name: str, outcome: str, state: Mapping[str, str | None]) -> None:
        if name:
            self._metrics.key_requests.labels(name, outcome).inc()
        rejection = state.get("rejection")
        if rejection is not None:
            self._metrics.key_rejections.labels(name, rejection).inc()


class _Answer:
    """Passes an answer on, and records its status, its duration and whether it is complete."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began = time.perf_counter()
        self.status = 0  # until the answer has begun
        self.complete = False

    @property
    def seconds(self) -> float:
        """Since the request's head arrived."""
        return time.perf_counter() - self._began

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            stages = headers.get("Server-Timing")
            total = f"total;dur={self.seconds * 1e3:.1f}"
            headers["Server-Timing"] = f"{stages}, {total}" if stages else total
        await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body")


def _route(scope: Scope) -> str:
    """The route's path template, so that made-up paths do not become labels."""
    route = getattr(scope.get("route"), "path", None)
    return route if isinstance(route, str) else "unmatched"


def outcome_of(status: int) -> str:
    """The label of a status in the metrics."""
    if status < HTTPStatus.BAD_REQUEST:
        return "ok"
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return OUTCOMES.get(status, "failed" if failed else "invalid")
