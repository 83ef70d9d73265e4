"""AdmissionQueue: requests on their way to the engine, bounded by the work they hold."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from service.errors import DeadlinePassed, QueueFull, ServiceError
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace

CERTAINTY = 2.0
"""A deadline is refused at admission only where the least estimate misses it by this factor."""


class AdmissionQueue:
    """Where HTTP and the engine's thread meet.

    Admitted work is counted until `release` says it is worked off, so the bound covers what waits
    and what runs.
    """

    def __init__(self, max_row_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_row_steps = max_row_steps
        self._clock = clock
        self._jobs: list[Job] = []
        self._row_steps = 0
        self._closed: ServiceError | None = None
        self._changed = threading.Condition()

    @property
    def pending(self) -> bool:
        """Whether a job waits to be taken."""
        return bool(self._jobs)

    @property
    def row_steps(self) -> int:
        """Work admitted and not yet worked off."""
        return self._row_steps

    def offer(self, job: Job, pace: Pace) -> None:
        """Admit a job, or say at once why not.

        Raises:
            QueueFull: the work waiting leaves no room for it.
            DeadlinePassed: it could not be done in time.
            ServiceError: what `close` was given.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed.with_traceback(None) from None
            self._check_room(job, pace)
            self._check_deadline(job, pace)
            self._jobs.append(job)
            self._row_steps += job.row_steps
            self._changed.notify()

    def take(self, timeout_s: float) -> list[Job]:
        """All that was admitted since the last call; waits up to ``timeout_s`` for something."""
        with self._changed:
            if not self._jobs and self._closed is None and timeout_s > 0:
                self._changed.wait(timeout_s)
            jobs, self._jobs = self._jobs, []
            return jobs

    def release(self, row_steps: int) -> None:
        """Work that was done or is no longer wanted."""
        with self._changed:
            self._row_steps -= row_steps
            assert self._row_steps >= 0, "this is a bug: more work released than admitted"

    def close(self, reason: ServiceError) -> None:
        """Admit nothing more; every offer is answered with ``reason``."""
        with self._changed:
            self._closed = reason
            self._changed.notify()

    def _check_room(self, job: Job, pace: Pace) -> None:
        """A job larger than the whole queue is admitted when nothing else is in."""
        excess = self._row_steps + job.row_steps - self._max_row_steps
        if excess > 0 and self._row_steps > 0:
            wait = pace.seconds_for(min(excess, self._row_steps))
            raise QueueFull(
                f"{self._row_steps} row-steps are waiting, the queue holds {self._max_row_steps}"
                f" and this request needs {job.row_steps}",
                retry_after_s=max(1, math.ceil(wait)),
            )

    def _check_deadline(self, job: Job, pace: Pace) -> None:
        longest = max(trajectory.steps for trajectory in job.trajectories)
        needed = longest * pace.tick_seconds(1)  # if it joined at once, with nobody beside it
        left = max(job.deadline - self._clock(), 0.0)
        if needed > CERTAINTY * left:
            raise DeadlinePassed(
                f"this request would take at least {needed:.1f} s, its deadline is in {left:.1f} s"
            )
