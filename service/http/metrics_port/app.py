"""The application of the metrics port: GET /metrics, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from service.http.guards.framing import refuse_two_framings
from service.http.guards.head_size import refuse_large_heads
from service.http.guards.hosts import HostGuard
from service.http.middleware.absolute_target import AbsoluteTarget
from service.http.middleware.guarding import Guarding
from service.http.middleware.head_as_get import HeadAsGet
from service.http.middleware.observation import Observation
from service.http.middleware.request_id import RequestId
from service.http.middleware.security_headers import SecurityHeaders
from service.http.middleware.unexpected_errors import UnexpectedErrors
from service.http.problems import add_problem_handlers
from service.http.routes import exposition
from service.metrics import Metrics


def create_metrics_app(metrics: Metrics, *, allowed_hosts: Sequence[str] = ("*",)) -> FastAPI:
    """Build the application. Its requests are counted and logged as the main port's are.

    Args:
        allowed_hosts: names under which it answers, besides addresses and localhost.
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.state.metrics = metrics
    # The last one added is the outermost.
    app.add_middleware(HeadAsGet)
    guards = (refuse_two_framings, refuse_large_heads, HostGuard(tuple(allowed_hosts)))
    app.add_middleware(Guarding, guards=guards)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(Observation, metrics=metrics)
    app.add_middleware(RequestId)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AbsoluteTarget)
    add_problem_handlers(app)
    app.include_router(exposition.router)
    return app
