"""ProgressReporter: reports progress to jobs, with previews for those that asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.runner.decoding import Pixels
from model.runner.runner import ModelRunner
from service.engine.isolation import Isolation
from service.scheduling.jobs import ImageTask, Job, Progress, flights_of


class ProgressReporter:
    """Calls the ``on_progress`` of jobs that have one."""

    def __init__(self, runner: ModelRunner, isolation: Isolation) -> None:
        self._runner = runner
        self._isolation = isolation

    def report(self, advanced: Sequence[ImageTask]) -> None:
        """Report to the jobs of these images, which took a step."""
        for job in dict.fromkeys(task.job for task in advanced):
            if job.on_progress is not None and not job.future.done():
                previews = self._previews(job, [task for task in advanced if task.job is job])
                job.on_progress(Progress(job.steps_done, job.steps, 0, previews))

    def report_waiting(self, job: Job, ahead: int) -> None:
        """Report to a job that it waits behind ``ahead`` others."""
        if job.on_progress is not None:
            job.on_progress(Progress(0, job.steps, ahead))

    def _previews(self, job: Job, tasks: list[ImageTask]) -> tuple[tuple[int, np.ndarray], ...]:
        every = job.preview_every
        due = [t for t in tasks if every and t.flight is not None and not t.steps_done % every]
        shown: list[tuple[int, np.ndarray]] = []

        def work(part: Sequence[ImageTask]) -> Pixels:
            return self._runner.preview(flights_of(part))

        def done(part: Sequence[ImageTask], pixels: Pixels) -> None:
            images = zip(part, pixels)
            shown.extend((task.index, image) for task, image in images if image is not None)

        if due:
            # A failed preview is left out; if the image itself is broken, its last decode shows it.
            self._isolation.run(due, work, done)
        return tuple(shown)
