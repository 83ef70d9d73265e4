"""python -m bench.peers.static: our own service with a static batcher in place of its scheduler."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from service.scheduling.jobs import ImageTask, Job
from service.threads import OPENMP

if TYPE_CHECKING:
    from model.sampling.trajectory import Trajectory


class StaticBatcher:
    """A batch runs to its end before the next begins; then all that wait are in, up to the rows.

    First come, first in. What a batch has finished is handed out at once, and its rows are
    computed no longer, which is kinder than padding it to its longest image.
    """

    def __init__(self, max_rows: int, slots: int) -> None:
        self.row_limit = max_rows
        self._slots = slots
        self._left: dict[Job, list[ImageTask]] = {}
        self._batch: list[ImageTask] = []

    @property
    def running(self) -> int:
        return len({id(sample.job) for sample in self._batch})

    @property
    def waiting(self) -> int:
        return len(self._left) - self.running

    def jobs(self) -> Collection[Job]:
        return self._left.keys()

    def ahead_of(self, job: Job) -> int:
        in_batch = {id(sample.job) for sample in self._batch}
        before = list(self._left)[: list(self._left).index(job)]
        return sum(id(other) not in in_batch for other in before)

    def add(self, job: Job) -> None:
        self._left[job] = [ImageTask(job, i, each) for i, each in enumerate(job.trajectories)]

    def pick(self) -> list[ImageTask]:
        """The batch under way, its finished images apart; or whom the next one would hold."""
        if self._batch:
            return [sample for sample in self._batch if sample.next_rows]
        picked: list[ImageTask] = []
        rows = 0
        for sample in (one for samples in self._left.values() for one in samples):
            rows += most_rows(sample.trajectory)
            if rows > self.row_limit or len(picked) == self._slots:
                break
            picked.append(sample)
        return picked

    def advanced(self, samples: Sequence[ImageTask]) -> None:
        self._batch += [sample for sample in samples if sample not in self._batch]

    def shrink(self, rows: int) -> None:
        self.row_limit = max(2, rows // 2)

    def finish(self, sample: ImageTask) -> None:
        self._batch.remove(sample)
        self._left[sample.job].remove(sample)
        if not self._left[sample.job]:
            del self._left[sample.job]

    def drop(self, job: Job) -> list[ImageTask]:
        self._batch = [sample for sample in self._batch if sample.job is not job]
        return self._left.pop(job)


def most_rows(trajectory: Trajectory) -> int:
    return max(trajectory.rows)


def main() -> int:
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
    from service.launch import serve
    from service.settings import read_settings

    return serve(read_settings([]), make_scheduler=StaticBatcher)


if __name__ == "__main__":
    sys.exit(main())
