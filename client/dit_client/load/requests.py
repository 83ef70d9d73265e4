"""Requests: sent at a fixed rate, or by clients that each wait for their answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio

from dit_client.async_client import AsyncClient
from dit_client.errors import DitError, QueueFull, ServiceError
from dit_client.options import Options


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request. ``seconds`` count from when it was due, also if it was sent later."""

    seconds: float
    outcome: str
    images: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """A number of requests, each with another seed.

    With a ``rate`` they are due at random moments, on average so many per second, however long the
    answers take (an open loop). Without one, each of the ``clients`` sends its next request when it has
    the answer to the last (a closed loop).
    """

    class_label: int | str
    options: Options
    requests: int
    clients: int = 8
    rate: float | None = None
    seed: int = 0


async def run_load(
    client: AsyncClient, load: Load, on_reply: Callable[[Reply], None] = lambda _: None
) -> tuple[list[Reply], float]:
    """Send the requests; their replies, and the seconds from the first request to the last reply.

    Args:
        client: one without retries, for they would hide what is measured.
    """
    replies: list[Reply] = []

    async def send(number: int, due: float) -> None:
        reply = await _reply(client, load, number, due)
        replies.append(reply)
        on_reply(reply)

    async def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            await send(number, time.monotonic())

    began = time.monotonic()
    async with anyio.create_task_group() as group:
        if load.rate is None:
            numbers = iter(range(load.requests))
            for _ in range(min(load.clients, load.requests)):
                group.start_soon(work, numbers)
        else:
            for number, after in enumerate(_arrivals(load)):
                await anyio.sleep(max(0.0, began + after - time.monotonic()))
                group.start_soon(send, number, began + after)
    return replies, time.monotonic() - began


def _arrivals(load: Load) -> Iterator[float]:
    """When each request is due, in seconds: independent of each other, as users are."""
    assert load.rate is not None, "this is a bug: a closed loop has no arrivals"
    generator = random.Random(load.seed)
    at = 0.0
    for _ in range(load.requests):
        yield at
        at += generator.expovariate(load.rate)


async def _reply(client: AsyncClient, load: Load, number: int, due: float) -> Reply:
    options: Options = {**load.options, "seed": load.seed + number}
    try:
        generation = await client.generate(load.class_label, **options)
    except QueueFull:
        return Reply(time.monotonic() - due, "429")
    except ServiceError as error:
        return Reply(time.monotonic() - due, str(error.status))
    except DitError as error:
        return Reply(time.monotonic() - due, type(error).__name__)
    return Reply(time.monotonic() - due, "ok", len(generation.images))
