"""Worker: what the engine's thread does at every tick: schedule, run, settle."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from model.runner import DeviceLost, Flight, ModelRunner, OutOfMemory
from service.admission import AdmissionQueue
from service.errors import ClientGone, DeadlinePassed, ImageFailed, ServiceError
from service.jobs import Job, Progress, Sample
from service.metrics import Metrics
from service.pace import Pace
from service.scheduler import Scheduler

log = structlog.get_logger()


class NotFinite(ArithmeticError):
    """An image's latent holds NaN or infinity."""


Decode = Callable[[Sequence[Flight]], list[np.ndarray | None]]


class Worker:
    """The images in flight, from the admission queue to their jobs' futures. One thread's own."""

    def __init__(
        self, runner: ModelRunner, queue: AdmissionQueue, metrics: Metrics, pace: Pace
    ) -> None:
        self._runner = runner
        self._queue = queue
        self._metrics = metrics
        self._pace = pace
        self._scheduler = Scheduler(runner.max_rows)

    @property
    def busy(self) -> bool:
        """Whether any job is waiting or running."""
        scheduler = self._scheduler
        return self._queue.pending or bool(scheduler.running or scheduler.waiting)

    def step(self, wait_s: float) -> None:
        """Schedule, run, settle. With nothing to do, wait up to ``wait_s`` for a job first.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """
        self._admit(wait_s)
        self._drop_unwanted()
        self._join()
        if self._scheduler.running:
            self._tick(self._scheduler.running)
            self._settle()
            self._report_progress()
        self._observe_load()

    def abandon(self, error: ServiceError) -> None:
        """Answer everybody who is still in with ``error``."""
        self._admit(0.0)
        for job in self._scheduler.jobs():
            self._drop(job, error, "cancelled")
        self._observe_load()

    def _admit(self, wait_s: float) -> None:
        for job in self._queue.take(wait_s):
            self._scheduler.add(job)

    def _drop_unwanted(self) -> None:
        now = time.monotonic()
        for job in self._scheduler.jobs():
            if job.cancelled:
                self._drop(job, ClientGone("the client left"), "cancelled")
            elif now > job.deadline:
                self._drop(job, DeadlinePassed("the request's deadline passed"), "timeout")

    def _join(self) -> None:
        now = time.monotonic()
        for sample in self._scheduler.joining():
            sample.flight = self._runner.join(sample.trajectory)
            if sample.job.joined is None:
                sample.job.joined = now
                self._metrics.queue_wait.observe(now - sample.job.admitted)

    def _tick(self, samples: Sequence[Sample]) -> None:
        """Advance these images by one step; a fault is traced to the image that causes it."""
        samples = list(samples)
        useful = sum(_flight(sample).rows for sample in samples)
        began = time.monotonic()
        fault: Exception | None = None
        try:
            rows = self._runner.tick([_flight(sample) for sample in samples])
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, one image caused it
            fault = self._stripped(error)
        if fault is not None:
            self._bisect(samples, fault)
            return
        self._queue.release(useful)
        self._observe_tick(len(samples), rows, rows - useful, time.monotonic() - began)

    def _bisect(self, samples: list[Sample], error: Exception) -> None:
        """Repeat a failed tick in halves until the culprit stands alone, and fail that one."""
        if len(samples) == 1:
            self._fail(samples[0], error)
            return
        half = len(samples) // 2
        for part in (samples[:half], samples[half:]):
            # the first half may have failed a job that has images in the second
            left = [sample for sample in part if sample.flight is not None]
            if left:
                self._tick(left)

    def _stripped(self, error: Exception) -> Exception:
        """The fault, rid of the frames whose tensors it holds, so that the halves have room."""
        if not isinstance(error, OutOfMemory):
            return error
        self._metrics.out_of_memory.inc()
        bare = OutOfMemory(str(error))
        _clear_frames(error)
        self._runner.release_cached_memory()
        return bare

    def _settle(self) -> None:
        """Decode what is finished and hand it to its jobs."""
        finished = [sample for sample in self._scheduler.running if _flight(sample).done]
        if not finished:
            return
        began = time.monotonic()
        decoded = self._decoded(self._runner.decode, finished)
        now = time.monotonic()
        self._metrics.decode_duration.observe(now - began)
        for job in dict.fromkeys(sample.job for sample in finished):
            job.decode_s += now - began
        for sample, outcome in zip(finished, decoded):
            if sample.flight is None:
                continue  # its job failed with another of its images
            if isinstance(outcome, Exception):
                self._fail(sample, outcome)
            else:
                self._deliver(sample, outcome, now)

    def _deliver(self, sample: Sample, pixels: np.ndarray, now: float) -> None:
        self._metrics.denoise_steps.labels("useful").inc(sample.trajectory.row_steps)
        self._metrics.images.labels("ok").inc()
        self._scheduler.finish(sample)
        self._leave(sample)
        sample.job.deliver(sample.index, pixels, now)

    def _decoded(self, decode: Decode, samples: list[Sample]) -> list[np.ndarray | Exception]:
        """Pixels of each image, or what went wrong with it alone."""
        fault: Exception | None = None
        try:
            pixels = decode([_flight(sample) for sample in samples])
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - as in a tick
            fault = self._stripped(error)
        if fault is None:
            return [NotFinite() if each is None else each for each in pixels]
        if len(samples) == 1:
            return [fault]
        half = len(samples) // 2
        return self._decoded(decode, samples[:half]) + self._decoded(decode, samples[half:])

    def _fail(self, sample: Sample, error: Exception) -> None:
        """Fail one image, and its job with it."""
        job = sample.job
        if isinstance(error, NotFinite):
            self._metrics.nonfinite_images.inc()
        log.error("image failed", request_id=job.id, image=sample.index, exc_info=error)
        answer = ImageFailed(f"image {sample.index} could not be made; the others were not harmed")
        self._drop(job, answer, "failed")

    def _drop(self, job: Job, error: ServiceError, outcome: str) -> None:
        for sample in self._scheduler.drop(job):
            self._queue.release(sample.row_steps_left)
            self._metrics.denoise_steps.labels("cancelled").inc(sample.row_steps_done)
            self._metrics.images.labels(outcome).inc()
            if sample.flight is not None:
                self._leave(sample)
        job.fail(error)

    def _leave(self, sample: Sample) -> None:
        self._runner.leave(_flight(sample))
        sample.flight = None

    def _report_progress(self) -> None:
        for job in self._scheduler.jobs():
            if job.on_progress is not None:
                job.on_progress(self._progress(job))

    def _progress(self, job: Job) -> Progress:
        mine = [sample for sample in self._scheduler.running if sample.job is job]
        waiting = [sample for sample in self._scheduler.waiting if sample.job is job]
        left = sum(sample.trajectory.steps - sample.steps_done for sample in (*mine, *waiting))
        ahead = 0 if mine or job.pixels else self._scheduler.ahead_of(job)
        return Progress(job.steps - left, job.steps, ahead, self._previews(job, mine))

    def _previews(self, job: Job, samples: list[Sample]) -> tuple[tuple[int, np.ndarray], ...]:
        if not job.preview_every:
            return ()
        due = [sample for sample in samples if sample.steps_done % job.preview_every == 0]
        pixels = self._decoded(self._runner.preview, due) if due else []
        return tuple(
            (sample.index, shown)
            for sample, shown in zip(due, pixels)
            if not isinstance(shown, Exception)
        )

    def _observe_tick(self, images: int, rows: int, padding: int, seconds: float) -> None:
        self._pace.observe(rows, seconds)
        self._metrics.tick_duration.observe(seconds)
        self._metrics.tick_rows.observe(rows)
        self._metrics.tick_images.observe(images)
        self._metrics.denoise_steps.labels("padding").inc(padding)

    def _observe_load(self) -> None:
        running = {id(sample.job) for sample in self._scheduler.running}
        waiting = {id(sample.job) for sample in self._scheduler.waiting} - running
        self._metrics.requests_running.set(len(running))
        self._metrics.requests_waiting.set(len(waiting))
        self._metrics.row_steps_waiting.set(self._queue.row_steps)
        for kind, size in self._runner.memory_bytes().items():
            self._metrics.gpu_memory.labels(kind).set(size)


def _clear_frames(error: BaseException | None) -> None:
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _flight(sample: Sample) -> Flight:
    assert sample.flight is not None, "this is a bug: the image is not in flight"
    return sample.flight
