"""Load: HTTP clients that ask for images, in a closed loop or at the times of a schedule."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx

PATH = "/generate"
SLACK_S = 30.0
"""How much longer than its timeout a client waits: the server is the one to end it."""

OPEN_LOOP_CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Order:
    """One request for one image."""

    class_label: int
    cfg_scale: float
    steps: int
    seed: int
    sampler: str = "ddim"
    timeout_s: float = 300.0

    def body(self) -> dict[str, int | float | str]:
        """As our service reads it; the peers know the same names."""
        return {
            "class_label": self.class_label,
            "cfg_scale": self.cfg_scale,
            "num_sampling_steps": self.steps,
            "sampler": self.sampler,
            "seed": self.seed,
            "timeout_s": self.timeout_s,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended: status 0 is no answer at all. ``stages`` are seconds, by name.

    ``seconds`` is its latency, ``ended`` the clock's time at its end.
    """

    order: Order
    status: int
    seconds: float
    ended: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """A picture, and in time."""
        return self.status == 200 and self.seconds <= self.order.timeout_s

    @property
    def latency(self) -> float:
        """A failure counts as the timeout at least: no arm gains by refusing."""
        return self.seconds if self.good else max(self.seconds, self.order.timeout_s)


@dataclass(frozen=True, slots=True)
class LoadRun:
    """A run's requests, in the order in which they ended, and how long all of it took.

    ``last_sent`` is the clock's time at which the last one was sent.
    """

    outcomes: tuple[Outcome, ...]
    seconds: float
    last_sent: float = 0.0

    @property
    def good(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.good]

    @property
    def goodput(self) -> float:
        """Pictures in time, a second."""
        return len(self.good) / self.seconds

    def steady_rate(self, clients: int) -> float:
        """Answers a second of a closed loop while all its clients were busy, and the first were served.

        A loop of no more than twice as many requests as clients has no such time: all of it counts.
        """
        if len(self.outcomes) <= 2 * clients:
            return len(self.outcomes) / self.seconds
        began = self.outcomes[clients - 1].ended
        counted = [one for one in self.outcomes if began < one.ended <= self.last_sent]
        return len(counted) / (self.last_sent - began)

    def latencies(self) -> list[float]:
        return [one.latency for one in self.outcomes]

    def latencies_by_step(self) -> list[float]:
        """Each request's latency over its steps: a short one is to wait less than a long one."""
        return [one.latency / one.order.steps for one in self.outcomes]


class RequestsFailed(RuntimeError):
    """Requests of a load under which none may fail."""


def closed_loop(url: str, orders: Sequence[Order], clients: int) -> LoadRun:
    """So many clients, each asking again as soon as it has its answer, until all is done.

    Raises:
        RequestsFailed: an answer was no picture.
    """
    run = asyncio.run(_closed_loop(url, orders, clients))
    failed = [one.status for one in run.outcomes if one.status != 200]
    if failed:
        raise RequestsFailed(f"{len(failed)} of {len(orders)} requests failed: {set(failed)}")
    return run


def open_loop(url: str, orders: Sequence[tuple[float, Order]]) -> LoadRun:
    """Each order at its time, whether or not those before it were answered.

    Latency counts from the time the schedule says, so a late start is the server's burden too.
    """
    return asyncio.run(_open_loop(url, orders))


async def _closed_loop(url: str, orders: Sequence[Order], clients: int) -> LoadRun:
    outcomes: list[Outcome] = []
    sent: list[float] = []
    waiting = iter(orders)
    async with _clients(url, clients) as each:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for client in each:
                group.create_task(_one_client(client, waiting, outcomes, sent))
        return LoadRun(tuple(outcomes), time.perf_counter() - began, max(sent, default=began))


async def _one_client(
    client: httpx.AsyncClient,
    orders: Iterator[Order],
    outcomes: list[Outcome],
    sent: list[float],
) -> None:
    for order in orders:
        sent.append(time.perf_counter())
        outcomes.append(await _ask(client, order, sent[-1]))


async def _open_loop(url: str, orders: Sequence[tuple[float, Order]]) -> LoadRun:
    outcomes: list[Outcome] = []
    async with _clients(url, OPEN_LOOP_CLIENTS) as clients:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for (at, order), client in zip(orders, itertools.cycle(clients)):
                await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
                group.create_task(_record(client, order, began + at, outcomes))
        return LoadRun(tuple(outcomes), time.perf_counter() - began)


async def _record(
    client: httpx.AsyncClient, order: Order, due: float, outcomes: list[Outcome]
) -> None:
    outcomes.append(await _ask(client, order, due))


async def _ask(client: httpx.AsyncClient, order: Order, since: float) -> Outcome:
    try:
        answer = await client.post(PATH, json=order.body(), timeout=order.timeout_s + SLACK_S)
    except httpx.HTTPError:
        ended = time.perf_counter()
        return Outcome(order, 0, ended - since, ended)
    ended = time.perf_counter()
    return Outcome(order, answer.status_code, ended - since, ended, stages_of(answer.headers))


def stages_of(headers: httpx.Headers) -> dict[str, float]:
    """Server-Timing's stages in seconds."""
    parts = re.findall(r"([\w-]+);dur=([\d.]+)", headers.get("Server-Timing", ""))
    return {name: float(milliseconds) / 1e3 for name, milliseconds in parts}


@asynccontextmanager
async def _clients(url: str, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """So many clients, each with an address of its own: our service is fair between addresses."""
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
