"""Trace: takes a request's place in its caller's trace, for the log lines and for spans of its own."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from service.http.keys.key_guard import key_of
from service.http.middleware.observation import QUIET, Observed
from service.tracing.context import parse_traceparent
from service.tracing.spans import ActiveRequest, Tracing
from service.tracing.stages import Attribute


class Trace:
    """Log lines of a request in a trace have its ``trace_id``.

    Args:
        tracing: makes the spans; None makes none.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = parse_traceparent(Headers(scope=scope).getlist("traceparent"))
        if self._tracing is not None and scope["path"] not in QUIET:
            await self._traced(self._tracing.begin(parent), scope, receive, send)
        elif parent is not None:
            with bound_contextvars(trace_id=parent.trace_id):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _traced(
        self, active: ActiveRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            with bound_contextvars(trace_id=active.trace_id, span_id=active.span_id):
                await self._app(scope, receive, send)
        finally:
            _end(active, scope)


def _end(active: ActiveRequest, scope: Scope) -> None:
    """The names of OpenTelemetry's conventions for HTTP servers, where they have one."""
    observed: Observed | None = scope["state"].get("observed")
    attributes: dict[str, Attribute] = {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "dit.request_id": scope["state"].get("request_id", ""),
    }
    if scope.get("client"):
        attributes["client.address"] = scope["client"][0]
    key = key_of(scope)
    if key is not None:
        attributes["dit.key"] = key.name
    if observed is None:  # the application failed before it was observed
        active.end(scope["method"], attributes, failed=True)
        return
    attributes |= {
        "http.response.status_code": observed.status,
        "http.route": observed.route,
        "dit.outcome": observed.outcome,
    }
    failed = observed.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if failed:
        attributes["error.type"] = str(observed.status)
    active.end(f"{scope['method']} {observed.route}", attributes, failed=failed)
