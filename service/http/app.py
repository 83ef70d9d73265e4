"""The application: routes, error handlers and middleware around an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import __version__
from service.engine.engine import Engine
from service.http.context import Context
from service.http.middleware import RequestContext
from service.http.problems import add_problem_handlers
from service.http.routes import catalogue, generate, health, verify
from service.images.order import Encoder, RequestLimits
from service.metrics import Metrics

ENCODER_THREADS = 2


def create_app(
    engine: Engine, metrics: Metrics, policy: RequestLimits, *, max_body_bytes: int = 65_536
) -> FastAPI:
    """Build the application; the engine is started and stopped by the caller."""
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
    )
    app.state.context = Context(engine, metrics, policy, Encoder(pool, metrics))
    app.add_middleware(RequestContext, metrics=metrics, max_body_bytes=max_body_bytes)
    add_problem_handlers(app)
    for routes in (generate, verify, catalogue, health):
        app.include_router(routes.router)
    return app
