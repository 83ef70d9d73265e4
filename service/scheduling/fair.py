"""FairScheduler: serves jobs in the order in which fair sharing would finish them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count

from service.scheduling.jobs import ImageTask, Job
from service.scheduling.narrowing import Narrowing
from service.scheduling.pace import Pace
from service.scheduling.ready_queues import Place, ReadyQueues
from service.scheduling.row_limit import RowLimit
from service.scheduling.virtual_time import Share, VirtualTime

BAND_TICKS = 8
"""Jobs that fair sharing would finish within this many full ticks of each other count as equal."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A job and its unfinished images."""

    place: Place
    share: Share
    tasks: list[ImageTask]
    in_flight: int = 0


class FairScheduler:
    """Serves jobs in the order in which fair sharing would finish them, anew at every tick.

    Fair sharing means weighted processor sharing over the jobs, in which the work of a client's
    n-th concurrent request counts n times. The sharing is only computed (`VirtualTime`): all rows
    of a tick go to the job that sharing would finish first (the fair sojourn protocol, Friedman and
    Henderson 2003). So every job finishes about when it would under sharing, or sooner; equal jobs
    finish one after the other rather than all at the end; a small job overtakes a large one; and no job
    starves, because the clock reaches every finish.

    Finishes within the same ``band`` of row-steps are equal. Among equals the earliest deadline
    goes first, then the least work, then the first arrival. Images in flight that are not picked
    are set aside, however many they are. Rows left over go to the next images that fit. Of those
    that the tick would have, `Narrowing` may leave some out.

    Args:
        max_rows: rows of the largest tick; at least 2.
        band: in row-steps; `BAND_TICKS` full ticks if None.
        narrowing: without it, a tick has as many rows as there are.
    """

    def __init__(
        self, max_rows: int, band: float | None = None, narrowing: Narrowing | None = None
    ) -> None:
        self._limit = RowLimit(max_rows)
        self._band = BAND_TICKS * max_rows if band is None else band
        self._clock = VirtualTime()
        self._arrivals = count()
        self._entries: dict[Job, _Entry] = {}
        self._waiting: list[Place] = []  # of the jobs without an image in flight
        self._ready = ReadyQueues()
        self._narrowing = narrowing
        self._sitting_out: frozenset[Job] = frozenset()  # of the tick that was picked last

    @property
    def row_limit(self) -> int:
        return self._limit.rows

    @property
    def running(self) -> int:
        return len(self._entries) - self.waiting

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def jobs(self) -> Collection[Job]:
        return self._entries.keys()

    def ahead_of(self, job: Job) -> int:
        return bisect_left(self._waiting, self._entries[job].place)

    def add(self, job: Job) -> None:
        work = job.work
        share = self._clock.admit(work, job.client)
        place = (share.finish // self._band, job.deadline, work, job.admitted, next(self._arrivals))
        tasks = [ImageTask(job, i, each) for i, each in enumerate(job.trajectories)]
        self._entries[job] = _Entry(place, share, tasks)
        insort(self._waiting, place)
        for task in tasks:
            self._ready.enter(place, task)

    def pick(self) -> list[ImageTask]:
        tasks = self._ready.pick(self._limit.rows)
        if self._narrowing is None:
            return tasks
        rows: Counter[Job] = Counter()
        for task in tasks:
            rows[task.job] += self._ready.queue_of(task).rows
        self._sitting_out = self._narrowing.sitting_out(rows)
        return [task for task in tasks if task.job not in self._sitting_out]

    def advanced(self, tasks: Sequence[ImageTask]) -> None:
        rows = 0
        for task in tasks:
            rows += self._ready.queue_of(task).rows
            if task.steps_done == 1:
                self._take_off(self._entries[task.job])
            self._ready.requeue(task)
        self._limit.succeeded(rows)
        self._clock.advance(rows)
        if self._narrowing is not None:
            self._narrowing.sat_out(self._sitting_out)
            self._sitting_out = frozenset()  # if the tick ran in parts, the others do not count

    def charge(self, row_steps: int) -> None:
        self._clock.advance(row_steps)

    def shrink(self, rows: int) -> None:
        self._limit.shrink(rows)

    def finish(self, task: ImageTask) -> None:
        entry = self._entries[task.job]
        entry.tasks.remove(task)
        self._land(entry, 1)
        if not entry.tasks:
            self._clock.refund(entry.share, task.job.work_skipped)
            self._remove(task.job)

    def drop(self, job: Job) -> list[ImageTask]:
        entry = self._entries[job]
        for task in entry.tasks:
            self._ready.leave(task)
        self._land(entry, entry.in_flight)
        self._clock.forget(entry.share)
        self._remove(job)
        return entry.tasks

    def _take_off(self, entry: _Entry) -> None:
        """One more of a job's images is in flight."""
        if not entry.in_flight:
            del self._waiting[bisect_left(self._waiting, entry.place)]
        entry.in_flight += 1

    def _land(self, entry: _Entry, images: int) -> None:
        """``images`` of a job are no longer in flight."""
        if images and images == entry.in_flight:
            insort(self._waiting, entry.place)
        entry.in_flight -= images

    def _remove(self, job: Job) -> None:
        """Take out a job that has nothing in flight."""
        entry = self._entries.pop(job)
        del self._waiting[bisect_left(self._waiting, entry.place)]
        self._sitting_out -= {job}
        if self._narrowing is not None:
            self._narrowing.forget(job)
        if not self._entries:
            self._clock.reset()


def fair_scheduler(pace: Pace, clock: Callable[[], float]) -> FairScheduler:
    """The service's scheduler."""
    return FairScheduler(pace.max_rows, narrowing=Narrowing(pace, clock))
