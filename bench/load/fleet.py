"""Fleet: an open loop of requests over several services, each sent to the one with the least work left."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

import httpx

from bench.load.clients import OPEN_LOOP_CLIENTS, LoadRun, Outcome, send, with_clients
from bench.load.metrics import parse_metrics
from bench.load.workload import Ask

WORK_LEFT = "dit_row_steps_waiting", ""


def fleet_loop(urls: Sequence[str], schedule: Sequence[tuple[float, Ask]]) -> LoadRun:
    """Sends each request at its time. Latency counts from then, with the router's question to all."""
    return asyncio.run(_fleet_loop(urls, schedule))


async def _fleet_loop(urls: Sequence[str], schedule: Sequence[tuple[float, Ask]]) -> LoadRun:
    outcomes: list[Outcome] = []
    async with with_clients("", OPEN_LOOP_CLIENTS) as clients:
        began = time.perf_counter()

        async def work(client: httpx.AsyncClient, ask: Ask, due: float) -> None:
            left = await asyncio.gather(*(_work_left(client, url) for url in urls))
            url = urls[left.index(min(left))]
            outcomes.append(await send(client, ask, due, url))

        async with asyncio.TaskGroup() as group:
            for (at, ask), client in zip(schedule, itertools.cycle(clients)):
                await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
                group.create_task(work(client, ask, began + at))
        return LoadRun(tuple(outcomes), time.perf_counter() - began, began=began)


async def _work_left(client: httpx.AsyncClient, url: str) -> float:
    """In row-steps, after the service's latest tick."""
    answer = await client.get(f"{url}/metrics", timeout=30.0)
    return parse_metrics(answer.text)[WORK_LEFT]
