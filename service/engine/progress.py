"""ProgressReporter: reports progress to jobs, with previews for those that asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.runner.runner import ModelRunner
from service.engine.decoder_passes import DecoderPasses
from service.engine.isolation import Isolation
from service.scheduling.jobs import ImageTask, Job, Progress

PASSES_PER_JOB = 4
"""A job with this many passes of previews under way gets no more until one is done. Otherwise a
decoder that is slower than the ticks would fall further and further behind."""


class ProgressReporter:
    """Calls the ``on_progress`` of jobs that have one.

    On CUDA a preview is decoded next to the following ticks and goes with a later report.
    """

    def __init__(self, runner: ModelRunner, isolation: Isolation) -> None:
        self._passes = DecoderPasses(runner, isolation, runner.start_preview)
        self._previews: dict[Job, list[tuple[int, np.ndarray]]] = {}  # to go with the next report

    def report(self, advanced: Sequence[ImageTask]) -> None:
        """Report to the jobs of these images, which took a step, and to those with new previews."""
        for job in dict.fromkeys(task.job for task in advanced):
            self._start_previews(job, [task for task in advanced if task.job is job])
            self._collect_previews()
            self._tell(job)
        self._collect_previews()
        for job in tuple(self._previews):
            self._tell(job)

    def report_waiting(self, job: Job, ahead: int) -> None:
        """Report to a job that it waits behind ``ahead`` others."""
        if job.on_progress is not None:
            job.on_progress(Progress(0, job.steps, ahead))

    def _tell(self, job: Job) -> None:
        previews = self._previews.pop(job, [])
        if job.on_progress is not None and not job.future.done():
            job.on_progress(Progress(job.steps_done, job.steps, 0, tuple(previews)))

    def _start_previews(self, job: Job, tasks: Sequence[ImageTask]) -> None:
        every = job.preview_every
        if every == 0 or job.on_progress is None or job.future.done():
            return
        due = [t for t in tasks if t.flight and t.next_rows and t.steps_done % every == 0]
        passes = [each for each in self._passes.under_way if each.tasks[0].job is job]
        if due and len(passes) < PASSES_PER_JOB:
            # A failed preview is left out; if the image itself is broken, its last decode shows it.
            self._passes.start(due)

    def _collect_previews(self) -> None:
        for each in self._passes.finished():
            for task, image in zip(each.tasks, each.decoding.pixels()):
                if image is not None:
                    self._previews.setdefault(task.job, []).append((task.index, image))
