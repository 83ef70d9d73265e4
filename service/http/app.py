"""The application: routes, error handlers and middleware around an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.engine.engine import Engine
from service.http.client_address import Network
from service.http.context import Context
from service.http.guards.content_coding import refuse_codings
from service.http.guards.cross_site import CrossSiteGuard
from service.http.guards.framing import refuse_other_versions, refuse_two_framings
from service.http.guards.head_size import refuse_large_heads
from service.http.guards.hosts import HostGuard
from service.http.keys.key_guard import KeyGuard
from service.http.keys.key_ring import KeyRing
from service.http.middleware.absolute_target import AbsoluteTarget
from service.http.middleware.body_limit import BodyLimit
from service.http.middleware.crowd import Crowd
from service.http.middleware.forwarded import Forwarded
from service.http.middleware.guarding import Guarding
from service.http.middleware.head_as_get import HeadAsGet
from service.http.middleware.observation import Observation
from service.http.middleware.request_id import RequestId
from service.http.middleware.security_headers import SecurityHeaders
from service.http.middleware.trace import Trace
from service.http.middleware.unexpected_errors import UnexpectedErrors
from service.http.problems import add_problem_handlers
from service.http.routes import (
    catalogue,
    documentation,
    exposition,
    generate,
    health,
    openai,
    playground,
    verify,
)
from service.images.encoder import Encoder
from service.images.limits import RequestLimits
from service.images.signing.signer import Signer
from service.metrics import Metrics
from service.tracing.spans import Tracing

ENCODER_THREADS = 2
METHODS = ("GET", "HEAD", "OPTIONS", "POST")
ANSWER_HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Allow",
    "ETag",
    "Retry-After",
    "Retry-After-Ms",
    "Server-Timing",
    "WWW-Authenticate",
    "X-Class-Label",
    "X-Request-Id",
    "X-Seed",
    "X-Should-Retry",
)
"""Headers that a page of another site may read."""


def create_app(
    engine: Engine,
    metrics: Metrics,
    limits: RequestLimits,
    *,
    max_body_bytes: int = 65_536,
    allowed_hosts: Sequence[str] = ("*",),
    cors_origins: Sequence[str] = (),
    trusted_proxies: Sequence[Network] = (),
    tracing: Tracing | None = None,
    signer: Signer | None = None,
    serve_metrics: bool = True,
    keys: KeyRing | None = None,
    metrics_without_key: bool = False,
) -> FastAPI:
    """Build the application. The caller starts and stops the engine.

    Args:
        allowed_hosts: names under which it answers, besides addresses and localhost.
        cors_origins: other sites whose pages may send requests and read the answers.
        tracing: makes a span of every request; None makes none.
        signer: signs finished images.
        serve_metrics: False where /metrics has a port of its own.
        keys: one of them is needed for requests; None lets everybody in.
        metrics_without_key: lets everybody read /metrics.
    """
    pool = ThreadPoolExecutor(ENCODER_THREADS, thread_name_prefix="encode")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        pool.shutdown(wait=False)

    app = FastAPI(
        title="DiT service",
        version=__version__,
        description="Images from class-conditional Diffusion Transformers.",
        lifespan=lifespan,
        openapi_url=None,  # routes/documentation.py has it, and a page that loads nothing
        redirect_slashes=False,  # behind a proxy that ends TLS it would redirect to http
    )
    limits = replace(limits, signed=signer is not None)
    key_guard = KeyGuard(keys, metrics_open=metrics_without_key) if keys is not None else None
    encoder = Encoder(pool, metrics, signer)
    app.state.context = Context(engine, metrics, limits, encoder, key_guard)
    app.state.metrics = metrics
    # The last one added is the outermost.
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, max_body_bytes=max_body_bytes)
    hosts, origins = HostGuard(tuple(allowed_hosts)), CrossSiteGuard(tuple(cors_origins))
    guards = (
        refuse_other_versions,
        refuse_two_framings,
        refuse_large_heads,
        hosts,
        origins,
        key_guard,
        refuse_codings,
    )
    app.add_middleware(Guarding, guards=tuple(each for each in guards if each is not None))
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(Crowd)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=METHODS,
            allow_headers=("*",),  # clients' own are ignored
            allow_private_network=True,
            expose_headers=ANSWER_HEADERS,
        )
    app.add_middleware(Observation, metrics=metrics)
    app.add_middleware(Trace, tracing=tracing)
    app.add_middleware(RequestId)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Forwarded, trusted=trusted_proxies)
    app.add_middleware(AbsoluteTarget)
    add_problem_handlers(app)
    for routes in (generate, verify, catalogue, openai, health, documentation, playground):
        app.include_router(routes.router)
    if serve_metrics:
        app.include_router(exposition.router)
    return app
