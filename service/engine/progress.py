"""ProgressReporter: reports progress to jobs, with previews for those that asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.engine.decoder_passes import DecoderPasses
from service.engine.preview_budget import PreviewBudget
from service.scheduling.jobs import ImageTask, Job, Progress

PASSES_PER_JOB = 4
"""A job with this many passes of previews under way gets no more until one is done. Otherwise a
decoder that is slower than the ticks would fall further and further behind."""


class ProgressReporter:
    """Calls the ``on_progress`` of jobs that have one.

    On CUDA a preview is decoded next to the following ticks and goes with a later report.

    Args:
        passes: where previews are decoded.
        budget: pays for them.
    """

    def __init__(self, passes: DecoderPasses, budget: PreviewBudget) -> None:
        self._passes = passes
        self._budget = budget
        self._previews: dict[Job, list[tuple[int, np.ndarray]]] = {}  # to go with the next report

    def report(self, advanced: Sequence[ImageTask]) -> None:
        """Report to the jobs of these images, which took a step, and to those with new previews."""
        self._start_previews(advanced)
        self._collect_previews()
        for job in dict.fromkeys([*(task.job for task in advanced), *self._previews]):
            self._tell(job)

    def report_waiting(self, job: Job, ahead: int) -> None:
        """Report to a job that it waits behind ``ahead`` others."""
        if job.on_progress is not None:
            job.on_progress(Progress(0, job.steps, ahead))

    def _tell(self, job: Job) -> None:
        previews = self._previews.pop(job, [])
        if job.on_progress is not None and not job.future.done():
            job.on_progress(Progress(job.steps_done, job.steps, 0, tuple(previews)))

    def _start_previews(self, advanced: Sequence[ImageTask]) -> None:
        """Start what is due and paid for. The images whose last preview is the oldest go first."""
        due = [task for task in advanced if _is_due(task) and self._keeps_up_with(task.job)]
        due.sort(key=lambda task: task.previewed - task.steps_done)
        chosen = due[: self._budget.pay(len(due))]
        for job in dict.fromkeys(task.job for task in chosen):
            tasks = [task for task in chosen if task.job is job]
            for task in tasks:
                task.previewed = task.steps_done
            self._budget.charge(job, len(tasks))
            # A failed preview is left out; if the image itself is broken, its last decode shows it.
            self._passes.start(tasks)

    def _keeps_up_with(self, job: Job) -> bool:
        passes = [each for each in self._passes.under_way if each.tasks[0].job is job]
        return len(passes) < PASSES_PER_JOB

    def _collect_previews(self) -> None:
        for each in self._passes.finished():
            for task, image in zip(each.tasks, each.pixels):
                if image is not None:
                    self._previews.setdefault(task.job, []).append((task.index, image))


def _is_due(task: ImageTask) -> bool:
    job = task.job
    if not job.has_preview_after(task.steps_done, task.trajectory.steps) or job.future.done():
        return False
    return task.flight is not None and task.next_rows > 0
