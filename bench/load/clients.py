"""Clients: HTTP load in a closed loop, or in an open loop at the times of a schedule."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from bench.load.workload import Ask

PATH = "/generate"
SLACK_S = 30.0
"""A client waits this much longer than the request's timeout, which the server enforces."""

OPEN_LOOP_CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended; status 0: without an answer. ``stages``: seconds by name.

    ``seconds`` is its latency, ``ended`` the clock at its end.
    """

    ask: Ask
    status: int
    seconds: float
    ended: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """An image, and in time."""
        return self.status == 200 and self.seconds <= self.ask.timeout_s

    @property
    def latency(self) -> float:
        """A failure counts as at least the timeout: refusing requests gains nothing."""
        return self.seconds if self.good else max(self.seconds, self.ask.timeout_s)


@dataclass(frozen=True, slots=True)
class LoadRun:
    """All requests of a load in the order they ended, and the seconds it took.

    ``began`` is the clock at its start, ``last_sent`` when the last request was sent.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    last_sent: float = 0.0
    began: float = 0.0

    @property
    def good(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.good]

    @property
    def goodput(self) -> float:
        """Images in time per second."""
        return len(self.good) / self.seconds

    def steady_rate(self, clients: int) -> float:
        """Answers per second of a closed loop while all clients were busy, after a first answer each.

        With at most twice as many requests as clients there is no such phase, and all count.
        """
        if len(self.outcomes) <= 2 * clients:
            return len(self.outcomes) / self.seconds
        began = self.outcomes[clients - 1].ended
        counted = [one for one in self.outcomes if began < one.ended <= self.last_sent]
        return len(counted) / (self.last_sent - began)

    def latencies(self) -> list[float]:
        return [one.latency for one in self.outcomes]

    def latencies_per_step(self) -> list[float]:
        """Latency divided by steps: a short request should wait less than a long one."""
        return [one.latency / one.ask.num_sampling_steps for one in self.outcomes]


class RequestsFailed(RuntimeError):
    """A request failed in a load in which none may."""


def closed_loop(url: str, asks: Sequence[Ask], clients: int) -> LoadRun:
    """Clients that each send their next request when the last one is answered.

    Raises:
        RequestsFailed: an answer was not an image.
    """
    run = asyncio.run(_closed_loop(url, asks, clients))
    failed = [one.status for one in run.outcomes if one.status != 200]
    if failed:
        raise RequestsFailed(f"{len(failed)} of {len(asks)} requests failed: {set(failed)}")
    return run


def open_loop(url: str, schedule: Sequence[tuple[float, Ask]]) -> LoadRun:
    """Sends each request at its time, whether or not earlier ones were answered.

    Latency counts from the scheduled time, so a late send counts against the server too.
    """
    return asyncio.run(_open_loop(url, schedule))


async def _closed_loop(url: str, asks: Sequence[Ask], clients: int) -> LoadRun:
    outcomes: list[Outcome] = []
    sent: list[float] = []
    waiting = iter(asks)

    async def work(client: httpx.AsyncClient) -> None:
        for ask in waiting:
            sent.append(time.perf_counter())
            outcomes.append(await send(client, ask, sent[-1]))

    async with with_clients(url, clients) as each:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for client in each:
                group.create_task(work(client))
        return LoadRun(
            tuple(outcomes), time.perf_counter() - began, max(sent, default=began), began
        )


async def _open_loop(url: str, schedule: Sequence[tuple[float, Ask]]) -> LoadRun:
    outcomes: list[Outcome] = []

    async def work(client: httpx.AsyncClient, ask: Ask, due: float) -> None:
        outcomes.append(await send(client, ask, due))

    async with with_clients(url, OPEN_LOOP_CLIENTS) as clients:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for (at, ask), client in zip(schedule, itertools.cycle(clients)):
                await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
                group.create_task(work(client, ask, began + at))
        return LoadRun(tuple(outcomes), time.perf_counter() - began, began=began)


async def send(client: httpx.AsyncClient, ask: Ask, since: float, url: str = "") -> Outcome:
    """One request; latency counts from ``since``."""
    status, stages = 0, {}
    with suppress(httpx.HTTPError):
        answer = await client.post(f"{url}{PATH}", json=ask.body, timeout=ask.timeout_s + SLACK_S)
        status, stages = answer.status_code, stages_of(answer.headers)
    ended = time.perf_counter()
    return Outcome(ask, status, ended - since, ended, stages)


def stages_of(headers: httpx.Headers) -> dict[str, float]:
    """Server-Timing's stages in seconds."""
    parts = re.findall(r"([\w-]+);dur=([\d.]+)", headers.get("Server-Timing", ""))
    return {name: float(milliseconds) / 1e3 for name, milliseconds in parts}


@asynccontextmanager
async def with_clients(url: str, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Each client has its own address, because our service is fair between addresses."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_client(url, i)) for i in range(count)]


def _client(url: str, number: int) -> httpx.AsyncClient:
    address = f"127.0.{1 + number // 250}.{1 + number % 250}"  # Linux has all of 127.0.0.0/8
    transport = httpx.AsyncHTTPTransport(
        verify=False,
        limits=httpx.Limits(max_connections=None),
        local_address=address if sys.platform == "linux" else None,
    )
    headers = {"Accept": "image/png"}
    return httpx.AsyncClient(base_url=url, transport=transport, headers=headers, trust_env=False)
