"""OpenJobs: the jobs that have not ended, to be reviewed in turn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from service.scheduling.jobs import Job


class OpenJobs:
    """A circle of jobs. One that ends leaves it at once, and its pixels with it."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[Job, None] = OrderedDict()  # the next in turn comes first

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        self._jobs[job] = None

    def remove(self, job: Job) -> None:
        del self._jobs[job]

    def next(self, count: int) -> Iterator[Job]:
        """The next ``count`` jobs, or all if they are fewer. The one just given may be removed."""
        for _ in range(min(count, len(self._jobs))):
            job = next(iter(self._jobs))
            self._jobs.move_to_end(job)
            yield job
