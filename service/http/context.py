"""Context: the objects that the routes share, stored in the application."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import Request

from service.engine.engine import Engine
from service.http.client_address import subscriber
from service.http.keys.key_guard import KeyGuard, key_of
from service.images.encoder import Encoder
from service.images.limits import RequestLimits
from service.metrics import Metrics
from service.scheduling.jobs import UNLIMITED, ClientLimits


@dataclass(frozen=True, slots=True)
class Context:
    engine: Engine
    metrics: Metrics
    limits: RequestLimits
    encoder: Encoder
    keys: KeyGuard | None = None


def context_of(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context), "this is a bug: create_app puts it there"
    return context


def client_of(request: Request) -> str:
    """Who sent a request, for fairness: an API key's name, or else a subscriber's address, as trusted
    proxies report it."""
    key = key_of(request.scope)
    if key is not None:
        return key.name
    return subscriber(request.client.host) if request.client is not None else ""


def client_limits_of(request: Request) -> ClientLimits:
    """How much that client may have under way."""
    key = key_of(request.scope)
    return key.limits if key is not None else UNLIMITED


def limits_of(request: Request) -> RequestLimits:
    """What one request of that client may ask for.

    A fleet's front puts ``seed`` and ``elapsed_s`` into the request's state, see `RequestLimits`.
    """
    seed = getattr(request.state, "seed", None)
    elapsed_s = getattr(request.state, "elapsed_s", 0.0)
    limits = replace(context_of(request).limits, seed=seed, elapsed_s=elapsed_s)
    most = client_limits_of(request).max_images
    return limits if most is None else replace(limits, max_images=min(limits.max_images, most))
