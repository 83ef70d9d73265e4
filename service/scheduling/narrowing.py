"""Narrowing: which jobs sit out a tick, so that those near their end have shorter ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from service.scheduling.jobs import Job
from service.scheduling.pace import Pace

LEAST_EFFICIENCY = 0.85
"""Of a narrowed tick: its rows per second over those of a full one."""

MUCH_LONGER = 2.0
"""Times the steps left of those before it, on average, from which a job sits out."""

MOST_SAT_OUT = 0.2
"""Ticks that a job sits out, at most, over the steps that it has."""

HURRY = 3.0
"""A job does not sit out if its deadline is nearer than this many times what it needs in full ticks."""


class Narrowing:
    """Makes a tick narrower for jobs that are near their end, at the cost of jobs that are not.

    A tick of r rows takes about a + b r seconds, so every row in it makes each of its images wait b
    longer. Left out for one tick, a job that has long to go finishes one short tick later; but who
    is near the end has all its last ticks shorter. This costs throughput, as a is paid more often:
    hence no narrower than `LEAST_EFFICIENCY` allows. No job sits out more than a fraction of its own
    length, and none whose deadline is near.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._pace = pace
        self._clock = clock
        self._least_rows = pace.rows_at(LEAST_EFFICIENCY)
        self._sat_out: dict[Job, int] = {}

    def sitting_out(self, rows: Mapping[Job, int]) -> frozenset[Job]:
        """Those of a tick's jobs that are left out.

        Args:
            rows: of each job in the tick.
        """
        if len(rows) < 2 or sum(rows.values()) <= self._least_rows:
            return frozenset()
        left = {job: job.ticks_left_at_least for job in rows}
        may = dict.fromkeys(job for job in rows if self._may_sit_out(job, left[job]))
        order = [job for job in rows if job not in may] + sorted(may, key=left.__getitem__)
        kept_rows, kept_left = 0, 0.0
        for kept, job in enumerate(order):
            longer = kept and left[job] > MUCH_LONGER * kept_left / kept
            if job in may and longer and kept_rows >= self._least_rows:
                return frozenset(order[kept:])
            kept_rows += rows[job]
            kept_left += left[job]
        return frozenset()

    def sat_out(self, jobs: Iterable[Job]) -> None:
        """A tick was run without these."""
        for job in jobs:
            self._sat_out[job] = self._sat_out.get(job, 0) + 1

    def forget(self, job: Job) -> None:
        """The job has ended."""
        self._sat_out.pop(job, None)

    def _may_sit_out(self, job: Job, left: float) -> bool:
        if self._sat_out.get(job, 0) >= MOST_SAT_OUT * job.ticks_at_least:
            return False
        return job.deadline - self._clock() >= HURRY * left * self._pace.longest_tick_s
