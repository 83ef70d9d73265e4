"""Disconnect: wait for a job's result, unless the client leaves first."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from starlette.requests import Request

from service.errors import ClientGone
from service.scheduling.jobs import Job, JobResult


async def result_of(request: Request, job: Job, answer: Future[JobResult]) -> JobResult:
    """The result of an admitted job; ``answer`` is the future that `Engine.submit` returned.

    Raises:
        ClientGone: the client left; the job ends at the next tick.
        ServiceError: the error that the job failed with.
    """
    done = asyncio.wrap_future(answer)
    left = asyncio.ensure_future(_wait_until_left(request))
    either: set[asyncio.Future[JobResult] | asyncio.Future[None]] = {done, left}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        raise ClientGone("the client closed the connection")
    finally:
        left.cancel()
        job.cancel()
        done.add_done_callback(retrieve_exception)


def retrieve_exception(future: asyncio.Future[JobResult]) -> None:
    """Keep asyncio from warning that the exception of this future was never retrieved."""
    if not future.cancelled():
        future.exception()


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
