"""A fleet in this process: real replicas behind a real front, and a client of its ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

from starlette.types import Message as ASGIMessage

from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from service.fleet.config import FleetConfig
from service.fleet.exchange import Forwarded, Message, Part
from service.fleet.gathering import Answer
from service.fleet.loads import ReplicaLoads
from service.fleet.replica import Replica
from service.fleet.sending.dispatch import Errand, ReplicaLost
from service.http.schemas import ModelDescription
from service.settings import Settings
from tests.support.services import PATIENCE_S, load_small_checkpoint


def load_small(settings: Settings) -> ModelRunner:
    """The small model in ``settings.model``, under the name that the settings give it."""
    checkpoint = load_small_checkpoint(Path(settings.model))
    named = replace(checkpoint, name=settings.model_name or checkpoint.name)
    return build_runner(named, max_rows=8, reproducible=settings.reproducible)


class LocalReplicas:
    """The replicas of one model, in this process.

    Args:
        cut_after: by the number of a request, the messages after which its replica is lost.
    """

    def __init__(self, replicas: Mapping[str, Replica]) -> None:
        self.replicas = dict(replicas)
        self.cut_after: dict[int, int] = {}
        self.errands: list[Errand] = []
        self.sent_to: list[str] = []
        self.cancelled = 0
        self._loads = ReplicaLoads()

    @property
    def count(self) -> int:
        return len(self.replicas)

    def has_others(self, than: frozenset[str]) -> bool:
        return bool(self.replicas.keys() - than)

    def description(self) -> ModelDescription | None:
        return next(iter(self.replicas.values())).describe() if self.replicas else None

    async def send(self, errand: Errand) -> AsyncGenerator[Message, None]:
        number = len(self.errands)
        self.errands.append(errand)
        if not self.replicas:
            await asyncio.Event().wait()
        name = self._loads.choose(
            self.replicas, str(number), errand.row_steps, errand.avoid, images=errand.images
        )[0]
        self.sent_to.append(name)
        passed, complete = 0, False
        try:
            async with aclosing(self.replicas[name].answer(errand.request)) as messages:
                async for message in messages:
                    if passed == self.cut_after.get(number):
                        raise ReplicaLost
                    complete = isinstance(message, Part) and message.last
                    yield message
                    passed += 1
        finally:
            self.cancelled += not complete
            self._loads.ended(str(number))

    async def ask_one(self, request: Forwarded, timeout_s: float) -> Answer | None:
        if not self.replicas:
            return None
        return await next(iter(self.replicas.values())).answer_whole(request)

    async def ask_all(self, request: Forwarded, timeout_s: float) -> Sequence[Answer]:
        return [await each.answer_whole(request) for each in self.replicas.values()]


@dataclass(slots=True)
class Got:
    """What a client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> dict[str, object]:
        content = json.loads(self.content)
        assert isinstance(content, dict)
        return content


async def ask(
    front: Callable[..., object],
    path: str,
    body: Mapping[str, object] | bytes | None = None,
    *,
    method: str | None = None,
    query: str = "",
    leave_when: Callable[[Got], bool] = lambda _: False,
    **headers: str,
) -> Got:
    """One request; the client leaves as soon as ``leave_when`` says so of what it got."""
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    named = {"host": "localhost", "content-type": "application/json"} | headers
    named |= {"content-length": str(len(content or b""))}
    got, left, read = Got(), asyncio.Event(), False

    async def receive() -> ASGIMessage:
        nonlocal read
        if not read:
            read = True
            return {"type": "http.request", "body": content or b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            got.chunks.append(message["body"])
            got.ended = not message.get("more_body", False)
        if leave_when(got):
            left.set()

    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in named.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    async with asyncio.timeout(PATIENCE_S):
        await front(scope, receive, send)  # type: ignore[misc]
    return got


def config_of(*names: str, folder: Path, **settings: object) -> FleetConfig:
    """A configuration of models of these names, all from one folder."""
    models = [{"name": name, "model": str(folder), "settings": settings} for name in names]
    return FleetConfig.model_validate({"models": models})
