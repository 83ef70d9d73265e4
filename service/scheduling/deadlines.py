"""Wanted: whether anybody still has use for a job's pictures."""

from __future__ import annotations

import time

from service.errors import ClientGone, DeadlinePassed, ServiceError
from service.scheduling.admission import CERTAINTY
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace


def reason_to_drop(job: Job, pace: Pace) -> ServiceError | None:
    """What ends a job: its client left, or its deadline passed or cannot be met any more."""
    if job.cancelled:
        return ClientGone("the client left")
    left = job.deadline - time.monotonic()
    if left < 0:
        return DeadlinePassed("the request's deadline passed")
    needed = job.ticks_at_least * pace.tick_seconds(1)  # with nobody beside it
    if needed > CERTAINTY * left:
        return DeadlinePassed("the request's deadline can no longer be met")
    return None
