"""Context: the objects that the routes share, stored in the application."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from service.engine.engine import Engine
from service.http.client_address import subscriber
from service.images.encoder import Encoder
from service.images.limits import RequestLimits
from service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Context:
    engine: Engine
    metrics: Metrics
    limits: RequestLimits
    encoder: Encoder


def context_of(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context), "this is a bug: create_app puts it there"
    return context


def client_of(request: Request) -> str:
    """Who sent a request, for fairness: a subscriber's address, as trusted proxies report it."""
    return subscriber(request.client.host) if request.client is not None else ""
