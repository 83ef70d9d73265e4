"""GET /livez and /readyz: the state of the service, for probes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from service.errors import Unavailable
from service.http.context import context_of
from service.http.problems import problem_responses

router = APIRouter(tags=["health"])


@router.get("/livez", summary="The process is alive")
async def livez() -> dict[str, str]:
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="The model is loaded and warm, and the engine runs",
    responses=problem_responses(503),
)
async def readyz(request: Request) -> dict[str, str]:
    engine = context_of(request).engine
    if not engine.ready:
        raise Unavailable(f"the service is {engine.status}", retry_after_s=5)
    return {"status": "ready"}
