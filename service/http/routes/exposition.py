"""GET /metrics: every metric, for Prometheus; on the main port, or on one of its own."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from service.http.media_ranges import BY_ACCEPT, best_offer

PLAIN_TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"
ENCODERS = {kind: choose_encoder(kind) for kind in (PLAIN_TEXT, OPENMETRICS)}
"""Of one version each: the library does not check a version that a client names."""

router = APIRouter(tags=["health"])

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
    body = encode(request.app.state.metrics.registry)
    return Response(body, headers={"Content-Type": content_type} | BY_ACCEPT)
