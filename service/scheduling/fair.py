"""FairScheduler: serves jobs in the order in which fair sharing would finish them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count

from service.scheduling.jobs import Job, Sample
from service.scheduling.ready_queues import Lines, Order
from service.scheduling.row_limit import RowLimit
from service.scheduling.virtual_time import Share, VirtualTime

BAND_TICKS = 8
"""Jobs that fair sharing would end within so many full ticks of each other are equals."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A job that is in, with its images still to come."""

    order: Order
    share: Share
    samples: list[Sample]
    in_flight: int = 0


class FairScheduler:
    """Serves jobs in the order in which fair sharing would end them, anew at every tick.

    Fair sharing is weighted processor sharing over the jobs, where a client's n-th request in at
    once counts as n times its work. It is only reckoned (`VirtualTime`); all rows go to whoever it
    would end first (the fair sojourn protocol, Friedman and Henderson 2003). So every job ends
    about when it would under sharing, or sooner; equals come out one after the other instead of
    all at the end, a small job overtakes a large one, and nobody starves, since the clock reaches
    everybody's finish.

    Finishes within the same ``band`` of row-steps are equal; among equals the earliest deadline goes
    first, then the shortest work, then whoever came first. Images in flight that are not picked are
    set aside and keep their slot. The rows left at the end of the order go to
    whoever fits them; without a free slot only images in flight are picked, so they come free.

    Args:
        max_rows: rows of the largest tick; at least 2.
        slots: images that may be in flight at once, set aside or not.
        band: row-steps; a few full ticks where None.
    """

    def __init__(self, max_rows: int, slots: int, band: float | None = None) -> None:
        self._limit = RowLimit(max_rows)
        self._slots = slots
        self._band = BAND_TICKS * max_rows if band is None else band
        self._clock = VirtualTime()
        self._arrivals = count()
        self._entries: dict[Job, _Entry] = {}
        self._unbegun: list[Order] = []  # of the jobs without an image in flight
        self._in_flight = 0
        self._lines = Lines()

    @property
    def row_limit(self) -> int:
        return self._limit.rows

    @property
    def running(self) -> int:
        return len(self._entries) - self.waiting

    @property
    def waiting(self) -> int:
        return len(self._unbegun)

    def jobs(self) -> Collection[Job]:
        return self._entries.keys()

    def ahead_of(self, job: Job) -> int:
        return bisect_left(self._unbegun, self._entries[job].order)

    def add(self, job: Job) -> None:
        work = job.row_steps
        share = self._clock.admit(work, job.client)
        order = (share.finish // self._band, job.deadline, work, job.admitted, next(self._arrivals))
        samples = [Sample(job, i, each) for i, each in enumerate(job.trajectories)]
        self._entries[job] = _Entry(order, share, samples)
        insort(self._unbegun, order)
        for sample in samples:
            self._lines.enter(order, sample)

    def pick(self) -> list[Sample]:
        return self._lines.pick(self._limit.rows, self._slots - self._in_flight)

    def served(self, samples: Sequence[Sample]) -> None:
        rows = 0
        for sample in samples:
            line = self._lines.line_of(sample)
            rows += line.rows
            if not line.in_flight:
                self._begin(self._entries[sample.job])
            self._lines.stepped(sample)
        self._limit.served(rows)
        self._clock.advance(rows)

    def shrink(self, rows: int) -> None:
        self._limit.shrink(rows)

    def finish(self, sample: Sample) -> None:
        entry = self._entries[sample.job]
        entry.samples.remove(sample)
        self._land(entry, 1)
        if not entry.samples:
            self._remove(sample.job)

    def drop(self, job: Job) -> list[Sample]:
        entry = self._entries[job]
        for sample in entry.samples:
            self._lines.leave(sample)
        self._land(entry, entry.in_flight)
        self._clock.forget(entry.share)
        self._remove(job)
        return entry.samples

    def _begin(self, entry: _Entry) -> None:
        """One more of a job's images is in flight."""
        if not entry.in_flight:
            del self._unbegun[bisect_left(self._unbegun, entry.order)]
        entry.in_flight += 1
        self._in_flight += 1

    def _land(self, entry: _Entry, images: int) -> None:
        """So many of a job's images are in flight no more."""
        if images and images == entry.in_flight:
            insort(self._unbegun, entry.order)
        entry.in_flight -= images
        self._in_flight -= images

    def _remove(self, job: Job) -> None:
        """Take out a job that has nothing in flight."""
        entry = self._entries.pop(job)
        del self._unbegun[bisect_left(self._unbegun, entry.order)]
        if not self._entries:
            self._clock.reset()
