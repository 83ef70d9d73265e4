"""Waiting: for a job's result, unless the client leaves first."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from starlette.requests import Request

from service.errors import ClientGone
from service.scheduling.jobs import Job, JobResult


async def result_of(request: Request, job: Job, promise: Future[JobResult]) -> JobResult:
    """What the job's promise comes to, unless the client leaves first.

    Raises:
        ClientGone: it left; the job ends at the next tick.
        ServiceError: what the job failed with.
    """
    done = asyncio.wrap_future(promise)
    left = asyncio.ensure_future(_left(request))
    either: set[asyncio.Future[JobResult] | asyncio.Future[None]] = {done, left}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        raise ClientGone("the client closed the connection")
    finally:
        left.cancel()
        job.cancel()
        done.add_done_callback(_seen)


async def _left(request: Request) -> None:
    """Return when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _seen(future: asyncio.Future[JobResult]) -> None:
    """Nobody waits for this answer any more, so its exception needs no complaint."""
    if not future.cancelled():
        future.exception()
