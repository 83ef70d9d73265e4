"""Deadlines: the one rule by which a job is refused or dropped."""

from __future__ import annotations

from service.errors import ClientGone, DeadlineImpossible, DeadlinePassed, ServiceError
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace

SAFETY_FACTOR = 2.0
"""A deadline counts as out of reach only if the lowest estimate misses it by this factor."""


def reason_to_drop(job: Job, pace: Pace, now: float, *, alone: bool) -> ServiceError | None:
    """What ends a job early: its client left, or its deadline passed or is out of reach.

    The estimate is the lowest possible one: all its images in one tick, with nothing else in it. For
    a job that is ``alone``, and takes the device from nobody, it goes by the best pace ever seen.
    """
    if job.cancelled:
        return ClientGone("the client left")
    left = job.deadline - now
    if left < 0:
        return _kind(job, pace)("the request's deadline passed")
    estimate = pace.best_seconds if alone else pace.least_seconds
    needed = estimate(job.ticks_left_at_least, job.images_left) if pace.sure else 0.0
    if needed > SAFETY_FACTOR * left:
        return _kind(job, pace)(
            f"timeout_s is {job.timeout_s:g}, and this request needs at least {needed:.3g} s more;"
            f" its deadline is in {left:.3g} s"
        )
    return None


def _kind(job: Job, pace: Pace) -> type[DeadlinePassed]:
    """Whether an idle device would have been too slow as well."""
    needed = pace.best_seconds(job.ticks_at_least, len(job.trajectories))
    return DeadlineImpossible if needed > job.timeout_s else DeadlinePassed
