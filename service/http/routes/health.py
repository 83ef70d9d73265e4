"""GET /livez, /readyz and /metrics: the state of the service, for operators."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from service.errors import Unavailable
from service.http.context import context_of
from service.http.media_ranges import BY_ACCEPT, best_offer
from service.http.problems import problem_responses

PLAIN_TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"
ENCODERS = {kind: choose_encoder(kind) for kind in (PLAIN_TEXT, OPENMETRICS)}
"""Of one version each: the library does not check a version that a client names."""

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


_METRICS = {
    "description": "Every metric; as OpenMetrics if Accept asks for it.",
    "content": {PLAIN_TEXT: {"schema": {"type": "string"}}},
}


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: _METRICS},
)
async def metrics(request: Request) -> Response:
    accept = ",".join(request.headers.getlist("accept"))
    encode, content_type = ENCODERS[best_offer(accept, tuple(ENCODERS)) or PLAIN_TEXT]
    body = encode(context_of(request).metrics.registry)
    return Response(body, headers={"Content-Type": content_type} | BY_ACCEPT)
