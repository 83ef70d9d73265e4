"""FrontDeployment: the deployment that takes requests in, and the models' replicas as it sees them."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage

from service.fleet.config import FleetConfig
from service.fleet.deployments.errand import RoutedErrand
from service.fleet.exchange import Forwarded, Head, Message, Part, Taken
from service.fleet.front import Front
from service.fleet.gathering import Answer
from service.fleet.loads import ReplicaLoads
from service.fleet.sending.dispatch import Errand, ReplicaLost
from service.http.schemas import ModelDescription
from service.logs import configure_logs

DESCRIBE_S = 30.0
"""How long a description is good for: a rolling update may change the model."""
BLINK_S = 0.05


class RayReplicas:
    """The replicas of one model, by their deployment's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)
        self._loads = ReplicaLoads()
        self._ids = itertools.count()
        self._description: ModelDescription | None = None
        self._describe_at = 0.0
        self._describing: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return len(self._loads.replicas)

    def has_others(self, than: frozenset[str]) -> bool:
        return bool(self._loads.replicas - than)

    async def send(self, errand: Errand) -> AsyncGenerator[Message, None]:
        routed = RoutedErrand(f"{id(self)}-{next(self._ids)}", errand, self._loads)
        answer = self._streaming.answer.remote(routed)
        replica, complete = "", False
        try:
            async for message in answer:
                replica = self._note(message, replica)
                complete = isinstance(message, Part) and message.last
                yield message
        except (RayError, RayServeException) as error:
            if _is_own_fault(error):
                raise
            self._loads.lose(replica)
            raise ReplicaLost from error
        finally:
            self._loads.ended(routed.id)
            if not complete:
                answer.cancel()

    async def ask_one(self, request: Forwarded, timeout_s: float) -> Answer | None:
        replica, head, body = "", None, b""
        try:
            async with asyncio.timeout(timeout_s), aclosing(self.send(Errand(request))) as messages:
                async for message in messages:
                    match message:
                        case Taken():
                            replica = message.replica
                        case Head():
                            head = message
                        case Part():
                            body += message.body
        except (TimeoutError, ReplicaLost):
            return None
        return None if head is None else Answer(replica, head, body)

    async def ask_all(self, request: Forwarded, timeout_s: float) -> Sequence[Answer]:
        asked = self._handle.broadcast("answer_whole", request)
        try:
            answers = await asked.results_async(timeout_s=timeout_s, return_exceptions=True)
        except (TimeoutError, RayServeException):
            return []
        return [each for each in answers if isinstance(each, Answer)]

    def description(self) -> ModelDescription | None:
        now = time.monotonic()
        if now >= self._describe_at and self._describing is None:
            self._describe_at = now + DESCRIBE_S
            # In a context of its own: it is no part of the request that happens to come by.
            context = contextvars.Context()
            self._describing = context.run(asyncio.ensure_future, self._describe())
        return self._description

    async def _describe(self) -> None:
        try:
            self._description = await self._handle.describe.remote()
        except (RayError, RayServeException):
            self._describe_at = 0.0
        finally:
            self._describing = None

    def _note(self, message: Message, replica: str) -> str:
        """Note what a message tells of its replica's work; returns the replica."""
        if isinstance(message, Taken):
            replica = message.replica
        if isinstance(message, Taken | Part):
            self._loads.report(replica, message.load)
        return replica


class WithoutRequestId:
    """Leaves X-Request-Id to Ray's proxy, which adds it to every answer, as the request has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_id(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["X-Request-Id"]
            await send(message)

        await self._app(scope, receive, send_without_id)


class FrontDeployment:
    """Ray calls these methods."""

    def __init__(self, config: FleetConfig, handles: Mapping[str, DeploymentHandle]) -> None:
        configure_logs(config.log_format)
        self._front = Front(config, {name: RayReplicas(each) for name, each in handles.items()})

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return WithoutRequestId(self._front)

    async def close(self, timeout_s: float) -> int:
        """Take nothing more in, and finish what is under way; returns how much is not finished."""
        self._front.close()
        ends = time.monotonic() + timeout_s
        while self._front.open_requests and time.monotonic() < ends:
            await asyncio.sleep(BLINK_S)
        return self._front.open_requests


def _is_own_fault(error: Exception) -> bool:
    """Whether a replica is there and raised this, or was told to cancel."""
    return isinstance(error, RayTaskError | TaskCancelledError)
