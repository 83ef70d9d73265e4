"""Waiting: for a job's result, unless the client leaves first."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request

from service.errors import ClientGone, DeadlinePassed
from service.jobs import Job, JobResult

LATE_S = 5.0
"""How long after its deadline a request waits for the engine to end it."""


async def result_of(request: Request, job: Job) -> JobResult:
    """The job's result, unless the client leaves first.

    Raises:
        ClientGone: it left; the job ends at the next tick.
        DeadlinePassed: the engine itself did not say so, being stuck in a tick.
        ServiceError: what the job failed with.
    """
    done = asyncio.wrap_future(job.future)
    left = asyncio.ensure_future(_left(request))
    either: set[asyncio.Future[JobResult] | asyncio.Future[None]] = {done, left}
    try:
        patience = job.deadline - time.monotonic() + LATE_S
        await asyncio.wait(either, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        if left.done():
            raise ClientGone("the client closed the connection")
        raise DeadlinePassed("the request's deadline passed, and the device has not answered since")
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
