"""Scheduler: which images are in flight, and which of them the next tick advances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from service.jobs import Job, Sample


class Scheduler:
    """Images waiting and running, within ``max_rows`` rows a tick. Knows nothing of tensors.

    An image that is in stays in until it is done, and every running image advances at every tick,
    so an image that has joined is never delayed. Room is kept for the most rows an image will ever
    take. Whoever has least in flight joins first, then the earliest deadline, then the
    shortest work, then whoever came first: a request for many images does not shut out a request
    for one that waits beside it. Images that are in are not set aside for anybody. The first in that
    order waits for its room; nobody overtakes it for being smaller.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.waiting: list[Sample] = []
        self.running: list[Sample] = []

    def add(self, job: Job) -> None:
        self.waiting += [Sample(job, i, each) for i, each in enumerate(job.trajectories)]

    def joining(self) -> Iterator[Sample]:
        """Move images from waiting to running while there is room, and give each as it moves."""
        if not self.waiting:
            return
        in_flight = Counter(id(sample.job) for sample in self.running)
        free = self.max_rows - sum(sample.peak_rows for sample in self.running)
        while self.waiting:
            first = min(self.waiting, key=lambda sample: _order(sample, in_flight))
            if first.peak_rows > free:
                return
            self.waiting.remove(first)
            self.running.append(first)
            in_flight[id(first.job)] += 1
            free -= first.peak_rows
            yield first

    def drop(self, job: Job) -> list[Sample]:
        """Forget a job's images; returns those that were running or waiting."""
        dropped = [sample for sample in (*self.running, *self.waiting) if sample.job is job]
        self.running = [sample for sample in self.running if sample.job is not job]
        self.waiting = [sample for sample in self.waiting if sample.job is not job]
        return dropped

    def finish(self, sample: Sample) -> None:
        self.running.remove(sample)

    def jobs(self) -> list[Job]:
        """Every job that has an image waiting or running, each once."""
        return list(dict.fromkeys(sample.job for sample in (*self.running, *self.waiting)))

    def ahead_of(self, job: Job) -> int:
        """Other requests that have an image waiting and came before this one."""
        waiting = dict.fromkeys(sample.job for sample in self.waiting)
        return sum(other.admitted < job.admitted for other in waiting if other is not job)


def _order(sample: Sample, in_flight: Counter[int]) -> tuple[int, float, int, float, int]:
    job = sample.job
    work = sample.trajectory.row_steps
    return in_flight[id(job)], job.deadline, work, job.admitted, sample.index
