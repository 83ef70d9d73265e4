"""AdmissionQueue: admitted jobs on their way to the engine, bounded by their work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.errors import QueueFull, ServiceError
from service.scheduling.client_limits import LEAST_RETRY_S, check_client_limits
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.drain_rate import DrainRate
from service.scheduling.jobs import Job
from service.scheduling.pace import Pace
from service.scheduling.turns import Turns

MOST_KEPT = 0.5
"""The part of the queue that is kept, at most, for those who were refused and told to come back."""


class AdmissionQueue:
    """Hands jobs from HTTP to the engine's thread.

    A job's work counts until it is done or dropped, so the bound covers both waiting and running
    jobs. A client that is refused gets a turn, for which room is kept.
    """

    def __init__(self, max_row_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_row_steps = max_row_steps
        self._clock = clock
        self._jobs: list[Job] = []  # admitted and not taken yet
        self._row_steps_left: dict[Job, int] = {}
        self._row_steps = 0
        self._turns = Turns()
        self._drained = DrainRate()
        self._closed: ServiceError | None = None
        self._changed = threading.Condition()

    @property
    def pending(self) -> bool:
        """Whether a job is waiting to be taken."""
        return bool(self._jobs)

    @property
    def row_steps(self) -> int:
        """The work admitted and neither done nor dropped, in rows times steps, with previews."""
        return self._row_steps

    @property
    def left(self) -> list[tuple[int, int]]:
        """What is left of each job that has not ended: row-steps and images. Any thread may ask."""
        with self._changed:
            return [(left, max(job.images_left, 1)) for job, left in self._row_steps_left.items()]

    def offer(self, job: Job, pace: Pace) -> None:
        """Admit a job, or refuse it at once.

        Raises:
            RateLimited: its client's limits leave no room for it.
            QueueFull: the work in the queue leaves no room for it.
            DeadlinePassed: it could not finish in time even on an idle device.
            ClientGone: it was cancelled already.
            ServiceError: the error given to `close`.
        """
        job.preview_row_steps = pace.decode_row_steps
        with self._changed:
            if self._closed is not None:
                raise self._closed.with_traceback(None) from None
            check_client_limits(job, self._row_steps_left, pace)
            self._check_room(job, pace)
            refusal = reason_to_drop(job, pace, self._clock(), alone=self._row_steps == 0)
            if refusal is not None:
                raise refusal  # its client's turn stays, for a request that can be met
            self._turns.use(job.client, self._clock())
            self._jobs.append(job)
            self._row_steps_left[job] = job.work
            self._row_steps += job.work
            self._changed.notify()

    def wait(self, timeout_s: float) -> None:
        """Wait until there is a job to take, or the queue is closed, but not for longer."""
        with self._changed:
            if not self._jobs and self._closed is None:
                self._changed.wait(timeout_s)

    def take(self) -> list[Job]:
        """All jobs admitted since the last call."""
        with self._changed:
            jobs, self._jobs = self._jobs, []
            return jobs

    def work_off(self, job: Job, row_steps: int) -> None:
        """Account for work done on a job."""
        with self._changed:
            left = self._row_steps_left[job] - row_steps
            assert left >= 0, "this is a bug: more work done than admitted"
            self._row_steps_left[job] = left
            self._release(row_steps)

    def forget(self, job: Job) -> None:
        """A job has ended: release the rest of its work."""
        with self._changed:
            self._release(self._row_steps_left.pop(job))

    def close(self, reason: ServiceError) -> None:
        """Admit nothing more; every offer raises the first ``reason`` given."""
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify()

    def _release(self, row_steps: int) -> None:
        self._row_steps -= row_steps
        self._drained.observe(row_steps, self._clock(), idle=self._row_steps == 0)

    def _check_room(self, job: Job, pace: Pace) -> None:
        """A job larger than the whole queue is admitted if the queue is empty."""
        now, limit = self._clock(), self._max_row_steps
        in_turn = self._turns.come(job.client, now)
        expected = 0 if in_turn else self._turns.work_of_others(job.client, now)
        room = limit - min(expected, int(MOST_KEPT * limit)) - self._row_steps
        if self._row_steps == 0 or job.work <= room:
            return

        def seconds_for(row_steps: int) -> float:
            measured = self._drained.seconds_for(row_steps)
            return pace.seconds_for(row_steps) if measured is None else measured

        excess = min(max(self._row_steps + job.work - limit, 0), self._row_steps)
        room_s = max(LEAST_RETRY_S, seconds_for(excess))
        give = self._turns.postpone if in_turn else self._turns.give
        kept = "" if excess else ", and others were told to come back first"
        raise QueueFull(
            f"{self._row_steps} row-steps are waiting, the queue holds {limit}"
            f" and this request needs {job.work}{kept}",
            retry_after_s=give(job.client, job.work, now, room_s, seconds_for),
        )
