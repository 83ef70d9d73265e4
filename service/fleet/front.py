"""Front: the ASGI application at the fleet's address. It computes nothing: replicas answer.

It chooses the model that a request names, and passes requests and answers on whole. Only the lists of
models, the metrics and the readiness are put together from several answers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from model.sampling.parameters import DRAWN_SEEDS
from service.errors import ServiceError, Unavailable, UnknownModel
from service.fleet.asgi_client import AsgiClient, ClientLeft, MissingModel
from service.fleet.config import FleetConfig
from service.fleet.exchange import Forwarded
from service.fleet.front_metrics import FrontMetrics
from service.fleet.gathering import Answer, Askable, list_of_models, metrics, readiness
from service.fleet.sending.dispatch import RETRY_AFTER_S, Dispatch, Errand, Replicas, Terms
from service.fleet.sending.reading import VERIFY, Wish, read_wish
from service.fleet.sending.resending import Setback
from service.fleet.sending.work import images_of, row_steps_of
from service.http.middleware.request_id import RequestId
from service.http.middleware.security_headers import SecurityHeaders
from service.http.middleware.unexpected_errors import UnexpectedErrors
from service.http.schemas import ModelDescription
from service.images.claim import longest_file

LARGEST_SIDE = 1024
"""Of a picture that is sent to /verify: pixels. A replica refuses what its own model cannot have made."""
GET = frozenset({"GET", "HEAD"})
LISTS = frozenset({"/models", "/v1/models"})

log = structlog.get_logger()


class ModelReplicas(Replicas, Askable, Protocol):
    """The replicas of one model, as a front uses them."""

    @property
    def count(self) -> int:
        """How many there are, as far as the front knows."""

    def description(self) -> ModelDescription | None:
        """The model, if one of them has described it; else one is asked for the next time."""


class Front:
    """An ASGI application.

    Args:
        models: by name, in the order of the configuration.
    """

    def __init__(self, config: FleetConfig, models: Mapping[str, ModelReplicas]) -> None:
        self._models = dict(models)
        self._default = config.models[0].name
        self._wait_s = config.front.wait_for_replica_s
        settings = {model.name: model.read_settings() for model in config.models}
        self._timeouts = {name: each.request_timeout_s for name, each in settings.items()}
        self._largest_body = max(each.max_body_bytes for each in settings.values())
        self._metrics = FrontMetrics(self._models)
        self._app: ASGIApp = SecurityHeaders(RequestId(UnexpectedErrors(self._serve)))
        self._closed = False
        self.open_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _live(receive, send)
        if scope["type"] != "http":
            return
        self.open_requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.open_requests -= 1

    def close(self) -> None:
        """Answer what comes from now on with 503."""
        self._closed = True

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived, client = time.monotonic(), AsgiClient(scope, receive, send)
        if scope["path"] == "/livez" and scope["method"] in GET:
            return await client.send_json({"status": "alive"})
        try:
            if self._closed:
                raise Unavailable("the service is stopping", retry_after_s=RETRY_AFTER_S)
            request = await client.read(self._most(scope["path"]))
            await _unless_left(client, self._answer(request, client, arrived))
        except ServiceError as error:
            await client.send_problem(error)
        except ClientLeft:
            log.info("the client left before its request was complete")

    def _most(self, path: str) -> int:
        return longest_file(LARGEST_SIDE) if path == VERIFY else self._largest_body

    async def _answer(self, request: Forwarded, client: AsgiClient, arrived: float) -> None:
        gathered = await self._gather(request) if request.method in GET else None
        if gathered is None:
            return await self._pass_on(request, client, arrived)
        await client.start(gathered.head)
        await client.write(gathered.body, last=True)

    async def _gather(self, request: Forwarded) -> Answer | None:
        if request.path == "/readyz":
            return await readiness(self._models, request)
        if request.path in LISTS:
            return await list_of_models(self._models, request)
        if request.path == "/metrics":
            for name, replicas in self._models.items():
                self._metrics.has_replicas(name, replicas.count)
            return await metrics(self._models, request, self._metrics.text())
        return None

    async def _pass_on(self, request: Forwarded, client: AsgiClient, arrived: float) -> None:
        wish = read_wish(request.method, request.path, request.query, request.body)
        known = wish.model in self._models
        model = wish.model if known and wish.model is not None else self._default
        if wish.needs_seed:
            request = _with_seed(request)
        dispatch = Dispatch(
            self._models[model],
            Errand(request, self._row_steps(model, wish, request.path), images_of(wish.body or {})),
            client if known or not wish.binding else self._told_of_all(client, wish),
            request_id=client.request_id,
            terms=self._terms(model, wish, arrived),
            on_setback=lambda setback: self._on_setback(model, setback),
        )
        await dispatch.run()

    def _terms(self, model: str, wish: Wish, arrived: float) -> Terms:
        most = self._timeouts[model]
        return Terms(arrived, min(wish.timeout_s or most, most), self._wait_s)

    def _row_steps(self, model: str, wish: Wish, path: str) -> int:
        if wish.body is None and path != VERIFY:
            return 0
        return row_steps_of(wish.body or {}, self._models[model].description())

    def _told_of_all(self, client: AsgiClient, wish: Wish) -> AsgiClient | MissingModel:
        if wish.model is None:
            return client
        names = ", ".join(map(repr, self._models))
        verb = "are" if len(self._models) > 1 else "is"
        text = f"{wish.model[:200]!r} is not served here; {names} {verb}"
        return MissingModel(client, UnknownModel(text))

    def _on_setback(self, model: str, setback: Setback) -> None:
        self._metrics.sent_again(model, setback)
        log.warning("sent to another replica", model=model, reason=setback.value)


async def _unless_left(client: AsgiClient, work: Coroutine[None, None, None]) -> None:
    """Run ``work`` until it is done, or cancel it when the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client.leaves())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _with_seed(request: Forwarded) -> Forwarded:
    """A second try has to draw what the first one would have drawn."""
    return replace(request, seed=secrets.randbelow(DRAWN_SEEDS))


async def _live(receive: Receive, send: Send) -> None:
    for event in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{event}.complete"})
