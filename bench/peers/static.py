"""python -m bench.peers.static: our service with a static batcher as its scheduler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence

from service.scheduling.jobs import ImageTask, Job
from service.scheduling.pace import Pace
from service.threads import configure_openmp


class StaticBatcher:
    """A batch runs to its end before the next begins; the next takes waiting images in order.

    Finished images are delivered at once and their rows freed: kinder than padding the batch to its
    longest image.
    """

    def __init__(self, max_rows: int) -> None:
        self.row_limit = max_rows
        self._images: dict[Job, list[ImageTask]] = {}
        self._batch: list[ImageTask] = []

    @property
    def running(self) -> int:
        return len({id(image.job) for image in self._batch})

    @property
    def waiting(self) -> int:
        return len(self._images) - self.running

    def jobs(self) -> Collection[Job]:
        return self._images.keys()

    def ahead_of(self, job: Job) -> int:
        running = {id(image.job) for image in self._batch}
        before = list(self._images)[: list(self._images).index(job)]
        return sum(id(other) not in running for other in before)

    def add(self, job: Job) -> None:
        self._images[job] = [ImageTask(job, i, each) for i, each in enumerate(job.trajectories)]

    def pick(self) -> list[ImageTask]:
        """The unfinished images of the running batch, else the next batch."""
        if self._batch:
            return [image for image in self._batch if image.next_rows]
        picked: list[ImageTask] = []
        rows = 0
        for image in (one for images in self._images.values() for one in images):
            rows += max(image.trajectory.rows)
            if rows > self.row_limit:
                break
            picked.append(image)
        return picked

    def advanced(self, tasks: Sequence[ImageTask]) -> None:
        self._batch += [image for image in tasks if image not in self._batch]

    def charge(self, row_steps: int) -> None:
        pass

    def shrink(self, rows: int) -> None:
        self.row_limit = max(2, rows // 2)

    def finish(self, task: ImageTask) -> None:
        self._batch.remove(task)
        self._images[task.job].remove(task)
        if not self._images[task.job]:
            del self._images[task.job]

    def drop(self, job: Job) -> list[ImageTask]:
        self._batch = [image for image in self._batch if image.job is not job]
        return self._images.pop(job)


def static_batcher(pace: Pace, _clock: Callable[[], float]) -> StaticBatcher:
    return StaticBatcher(pace.max_rows)


def main() -> int:
    configure_openmp()
    from service.launch import serve
    from service.settings import read_settings

    return serve(read_settings([]), make_scheduler=static_batcher)


if __name__ == "__main__":
    sys.exit(main())
