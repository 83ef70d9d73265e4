"""Deadlines: the one rule by which a job is refused or dropped."""

from __future__ import annotations

from service.errors import ClientGone, DeadlinePassed, ServiceError
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace

SAFETY_FACTOR = 2.0
"""A deadline counts as out of reach only if the lowest estimate misses it by this factor."""


def reason_to_drop(job: Job, pace: Pace, now: float) -> ServiceError | None:
    """What ends a job early: its client left, or its deadline passed or is out of reach.

    The estimate is the lowest possible one: all its images in one tick, with nothing else in it.
    """
    if job.cancelled:
        return ClientGone("the client left")
    left = job.deadline - now
    if left < 0:
        return DeadlinePassed("the request's deadline passed")
    needed = job.ticks_left_at_least * pace.tick_seconds(1)
    if needed > SAFETY_FACTOR * left:
        return DeadlinePassed(
            f"this request needs at least {needed:.1f} s more and its deadline is in {left:.1f} s"
        )
    return None
