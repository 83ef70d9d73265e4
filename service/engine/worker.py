"""Worker: one step of the engine's thread: schedule, run, settle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from model.runner.runner import ModelRunner
from service.engine.decode_queue import DecodeQueue
from service.engine.decoder_passes import Decoded, DecoderPasses
from service.engine.isolation import Isolation, NotFinite
from service.engine.load_gauges import LoadGauges
from service.engine.preview_budget import PreviewBudget
from service.engine.progress import ProgressReporter
from service.errors import ImageFailed, ServiceError
from service.metrics import Metrics, exemplar
from service.scheduling.admission import AdmissionQueue
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.jobs import ImageTask, Job, flight_of, flights_of
from service.scheduling.open_jobs import OpenJobs
from service.scheduling.pace import Pace
from service.scheduling.scheduler import Scheduler

REVIEWED_PER_STEP = 32
"""Jobs reviewed at every step in addition to the picked ones: a fixed number, so that the cost of a
step does not depend on how many jobs wait."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ticked:
    """A tick that was launched: the rows of each image, and all its rows with padding."""

    image_rows: list[int]
    rows: int


class Worker:
    """Runs admitted jobs and resolves their futures. Used by one thread only.

    Args:
        beat: called whenever the device has done something: a sign of life.
        clock: that of the jobs' times.
    """

    def __init__(
        self,
        runner: ModelRunner,
        queue: AdmissionQueue,
        metrics: Metrics,
        *,
        pace: Pace,
        scheduler: Scheduler,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._queue = queue
        self._metrics = metrics
        self._pace = pace
        self._scheduler = scheduler
        self._beat = beat
        self._clock = clock
        self._isolation = Isolation(runner, metrics, beat)
        self._budget = PreviewBudget(pace, queue, scheduler)
        previews = DecoderPasses(runner, self._isolation, runner.start_preview, pace)
        self._progress = ProgressReporter(previews, self._budget)
        self._decodes = DecoderPasses(runner, self._isolation, runner.start_decode, pace)
        self._decode_queue = DecodeQueue(self._decodes)
        self._open = OpenJobs()
        self._gauges = LoadGauges(runner, queue, scheduler, metrics, clock)

    @property
    def busy(self) -> bool:
        """Whether any job is waiting or running."""
        return self._queue.pending or bool(self._scheduler.jobs())

    def step(self) -> None:
        """Schedule, run, settle.

        The wait for the device comes before the choice of the images, so that who arrives or leaves
        meanwhile is considered.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """
        self._runner.wait_for_room()
        self._admit()
        picked = self._schedule()
        advanced = self._run(picked)
        self._settle(advanced, wait=not picked)

    def abandon(self, error: ServiceError) -> None:
        """End every unfinished job with ``error``."""
        self._admit()
        for job in tuple(self._scheduler.jobs()):
            self._drop(job, error, "cancelled")
        self._gauges.observe()

    def _admit(self) -> None:
        for job in self._queue.take():
            self._scheduler.add(job)
            self._open.add(job)

    def _schedule(self) -> list[ImageTask]:
        """The images of the next tick, all of them still wanted."""
        while True:
            picked = self._scheduler.pick()
            jobs = dict.fromkeys(task.job for task in picked)
            if not [job for job in jobs if self._drop_if_unwanted(job)]:
                return picked

    def _run(self, picked: Sequence[ImageTask]) -> list[ImageTask]:
        """Advance these images by one step; returns those that succeeded. The others have failed."""
        if not picked:
            return []
        self._join(picked)
        faults = self._isolation.run(picked, self._tick, self._account, self._shrink)
        self._fail_all(faults)
        return [task for task in picked if task.flight is not None]

    def _settle(self, advanced: Sequence[ImageTask], *, wait: bool) -> None:
        """Learn the pace, decode what is finished, deliver what is decoded, report progress."""
        self._learn_pace()
        self._decode([task for task in advanced if flight_of(task).done])
        self._deliver_decoded(wait=wait)
        self._progress.report(advanced)
        self._review_some()
        self._gauges.observe()

    def _join(self, picked: Sequence[ImageTask]) -> None:
        now = self._clock()
        for task in picked:
            if task.flight is None:
                task.flight = self._runner.join(task.trajectory)
            if task.job.joined is None:
                task.job.joined = now
                waited = now - task.job.admitted
                self._metrics.queue_wait.observe(waited, exemplar(task.job.id))

    def _tick(self, tasks: Sequence[ImageTask]) -> Ticked:
        image_rows = [task.next_rows for task in tasks]
        return Ticked(image_rows, self._runner.tick(flights_of(tasks)))

    def _account(self, tasks: Sequence[ImageTask], ticked: Ticked) -> None:
        """These images are one step further."""
        self._scheduler.advanced(tasks)
        now = self._clock()
        for task, rows in zip(tasks, ticked.image_rows):
            task.job.denoised = now
            task.job.steps_done += 1
            self._queue.work_off(task.job, rows)
        self._metrics.tick_rows.observe(ticked.rows)
        self._metrics.tick_images.observe(len(tasks))
        padding = ticked.rows - sum(ticked.image_rows)
        self._metrics.denoise_steps.labels("padding").inc(padding)

    def _learn_pace(self) -> None:
        """From the ticks that have finished, which on CUDA were launched at earlier steps."""
        for tick in self._runner.finished_ticks():
            self._pace.observe(tick.rows, tick.seconds)
            self._budget.earn(tick.seconds)
            self._metrics.tick_duration.observe(tick.seconds)

    def _shrink(self, tasks: Sequence[ImageTask]) -> None:
        self._scheduler.shrink(sum(task.next_rows for task in tasks))

    def _decode(self, finished: Sequence[ImageTask]) -> None:
        """Start the next passes; these images wait for theirs."""
        self._decode_queue.add(finished)
        for job in self._decode_queue.jobs:
            self._drop_if_unwanted(job)
        self._fail_all(self._decode_queue.start())

    def _deliver_decoded(self, *, wait: bool) -> None:
        """Hand pixels to their jobs, pass by pass.

        With ``wait``, wait for all passes under way, or until a job arrives that can run next to them.
        """
        for each in self._decodes.finished(lambda: wait and not self._queue.pending):
            self._beat()
            self._deliver_pass(each)

    def _deliver_pass(self, finished: Decoded) -> None:
        now = self._clock()
        self._metrics.nonfinite_images.inc(sum(image is None for image in finished.pixels))
        self._metrics.decode_duration.observe(finished.seconds)
        for job in dict.fromkeys(task.job for task in finished.tasks):
            job.decode_s += finished.seconds
            job.decode_began = min(job.decode_began or now, now - finished.seconds)
            job.decoded = now
        for task, image in zip(finished.tasks, finished.pixels):
            if image is None:
                self._fail(task, NotFinite())
            elif task.flight is not None:  # else another image has failed the job
                self._deliver(task, image, now)

    def _deliver(self, task: ImageTask, pixels: np.ndarray, now: float) -> None:
        self._metrics.denoise_steps.labels("useful").inc(task.trajectory.row_steps)
        self._metrics.guidance_rows_saved.inc(task.trajectory.unguided_steps)
        self._metrics.images.labels("ok").inc()
        self._scheduler.finish(task)
        self._leave(task)
        task.job.deliver(task.index, pixels, now)
        if task.job.future.done():
            self._close(task.job)

    def _fail_all(self, faults: dict[ImageTask, Exception]) -> None:
        for task, fault in faults.items():
            self._fail(task, fault)

    def _fail(self, task: ImageTask, error: Exception) -> None:
        """Fail one image, and its job with it."""
        if task.flight is None:
            return  # another image has failed the job
        job = task.job
        log.error("image failed", request_id=job.id, image=task.index, exc_info=error)
        answer = ImageFailed(f"image {task.index} could not be made; no other request was affected")
        self._drop(job, answer, "failed")

    def _drop_if_unwanted(self, job: Job) -> bool:
        error = reason_to_drop(job, self._pace, self._clock(), alone=len(self._open) == 1)
        if error is not None:
            self._drop(job, error, error.outcome or "timeout")
        return error is not None

    def _drop(self, job: Job, error: ServiceError, outcome: str) -> None:
        self._close(job)
        for task in self._scheduler.drop(job):
            self._metrics.denoise_steps.labels("cancelled").inc(task.row_steps_done)
            self._metrics.images.labels(outcome).inc()
            if task.flight is not None:
                self._leave(task)
        job.fail(error)

    def _close(self, job: Job) -> None:
        """A job has ended: keep nothing of it."""
        self._queue.forget(job)
        self._open.remove(job)
        self._decode_queue.drop(job)
        if not self._open:
            self._pace.rest()

    def _leave(self, task: ImageTask) -> None:
        self._runner.leave(flight_of(task))
        task.flight = None

    def _review_some(self) -> None:
        """Review the next few jobs: drop the unwanted, tell the waiting ones how many are ahead."""
        for job in self._open.next(REVIEWED_PER_STEP):
            if not self._drop_if_unwanted(job) and job.joined is None:
                self._progress.report_waiting(job, self._scheduler.ahead_of(job))
