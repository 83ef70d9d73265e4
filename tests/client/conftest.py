"""Both clients under one face, so that each test runs with each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest
from typing_extensions import Unpack

from dit_client import (
    AsyncClient,
    ClassEntry,
    Client,
    Event,
    Generation,
    Health,
    Model,
    Options,
    RetryPolicy,
    Verification,
)
from tests.support.services import Running

QUICK = RetryPolicy(first_s=0.01, longest_s=0.02)


class EitherClient(Protocol):
    """What the tests use of a client."""

    def generate(
        self, class_label: int | str, *, timeout_s: float | None = None, **options: Unpack[Options]
    ) -> Generation: ...

    def events(
        self,
        class_label: int | str,
        *,
        count: int | None = None,
        preview_every: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> list[Event]: ...

    def classes(self, search: str = "") -> tuple[ClassEntry, ...]: ...
    def models(self) -> tuple[Model, ...]: ...
    def verify(self, file: bytes) -> Verification: ...
    def health(self) -> Health: ...


class Blocking(Client):
    """The blocking client; ``events`` leaves a stream after ``count`` of them."""

    def events(
        self,
        class_label: int | str,
        *,
        count: int | None = None,
        preview_every: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> list[Event]:
        found = []
        with self.stream(
            class_label, preview_every=preview_every, timeout_s=timeout_s, **options
        ) as events:
            for event in events:
                found.append(event)
                if len(found) == count:
                    break
        return found


class Awaiting:
    """The asynchronous client, each call run to its end."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self.client = client
        self._runner = runner

    def generate(
        self, class_label: int | str, *, timeout_s: float | None = None, **options: Unpack[Options]
    ) -> Generation:
        return self._runner.run(self.client.generate(class_label, timeout_s=timeout_s, **options))

    def events(
        self,
        class_label: int | str,
        *,
        count: int | None = None,
        preview_every: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[Options],
    ) -> list[Event]:
        async def collect() -> list[Event]:
            found: list[Event] = []
            async with self.client.stream(
                class_label, preview_every=preview_every, timeout_s=timeout_s, **options
            ) as events:
                async for event in events:
                    found.append(event)
                    if len(found) == count:
                        break
            return found

        return self._runner.run(collect())

    def classes(self, search: str = "") -> tuple[ClassEntry, ...]:
        return self._runner.run(self.client.classes(search))

    def models(self) -> tuple[Model, ...]:
        return self._runner.run(self.client.models())

    def verify(self, file: bytes) -> Verification:
        return self._runner.run(self.client.verify(file))

    def health(self) -> Health:
        return self._runner.run(self.client.health())

    def close(self) -> None:
        self._runner.run(self.client.aclose())


Connect = Callable[..., EitherClient]


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Connects a client of either kind to a URL; closed after the test."""
    with ExitStack() as stack:

        def connected(
            url: str,
            *,
            retries: RetryPolicy = QUICK,
            api_key: str | None = None,
            timeout_s: float | None = None,
        ) -> EitherClient:
            if request.param == "Client":
                blocking = Blocking(url, retries=retries, api_key=api_key, timeout_s=timeout_s)
                return stack.enter_context(blocking)
            runner = stack.enter_context(asyncio.Runner())
            client = AsyncClient(url, retries=retries, api_key=api_key, timeout_s=timeout_s)
            awaiting = Awaiting(client, runner)
            stack.callback(awaiting.close)
            return awaiting

        yield connected


@pytest.fixture
def client(connect: Connect, service: Running) -> EitherClient:
    """A client of the session's service."""
    return connect(service.url)
