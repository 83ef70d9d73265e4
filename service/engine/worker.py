"""Worker: what the engine's thread does at every tick: schedule, run, settle."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import structlog

from model.runner.decoding import Decoding
from model.runner.runner import DeviceLost, Flight, ModelRunner, OutOfMemory
from service.engine.isolation import NotFinite, culprits, without_frames
from service.errors import ClientGone, ImageFailed, ServiceError
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.jobs import Job, Progress, Sample
from service.scheduling.pace import Pace
from service.scheduling.scheduler import Scheduler

LOOKED_AFTER = 32
"""Jobs looked after at every step beside those that are picked: a few among thousands, so that a step
costs the same however many wait."""

log = structlog.get_logger()


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Decode:
    """Finished images in the decoder, since ``began``."""

    samples: Sequence[Sample]
    decoding: Decoding
    began: float


class Worker:
    """The images in flight, from the admission queue to their jobs' futures. One thread's own."""

    def __init__(
        self,
        runner: ModelRunner,
        queue: AdmissionQueue,
        metrics: Metrics,
        *,
        pace: Pace,
        scheduler: Scheduler,
    ) -> None:
        self._runner = runner
        self._queue = queue
        self._metrics = metrics
        self._pace = pace
        self._scheduler = scheduler
        self._decodes: deque[Decode] = deque()
        self._round: deque[Job] = deque()  # in the order in which they are looked after
        self._row_limit = scheduler.row_limit
        metrics.row_limit.set(self._row_limit)

    @property
    def busy(self) -> bool:
        """Whether any job is waiting or running."""
        return self._queue.pending or bool(self._scheduler.jobs())

    def step(self, wait_s: float) -> None:
        """Schedule, run, settle. With nothing to do, wait up to ``wait_s`` for a job first.

        Raises:
            DeviceLost: the device is gone, and every image with it.
        """
        self._admit(wait_s)
        picked = self._pick()
        if picked:
            self._join(picked)
            stepped = self._tick(picked)
            self._settle(stepped)
            self._report_progress(stepped)
        else:
            self._deliver_decoded(wait=True)
        self._look_after_some()
        self._observe_load()

    def abandon(self, error: ServiceError) -> None:
        """Answer everybody who is still in with ``error``."""
        self._admit(0.0)
        for job in tuple(self._scheduler.jobs()):
            self._drop(job, error, "cancelled")
        self._observe_load()

    def _admit(self, wait_s: float) -> None:
        for job in self._queue.take(wait_s):
            self._scheduler.add(job)
            self._round.append(job)

    def _pick(self) -> list[Sample]:
        """The next tick's images, all of them still wanted."""
        while True:
            picked = self._scheduler.pick()
            jobs = dict.fromkeys(sample.job for sample in picked)
            if not [job for job in jobs if self._dropped_as_unwanted(job)]:
                return picked

    def _dropped_as_unwanted(self, job: Job) -> bool:
        error = reason_to_drop(job, self._pace)
        if error is not None:
            self._drop(job, error, "cancelled" if isinstance(error, ClientGone) else "timeout")
        return error is not None

    def _join(self, picked: Sequence[Sample]) -> None:
        now = time.monotonic()
        for sample in picked:
            if sample.flight is None:
                sample.flight = self._runner.join(sample.trajectory)
            if sample.job.joined is None:
                sample.job.joined = now
                self._metrics.queue_wait.observe(now - sample.job.admitted)

    def _tick(self, picked: list[Sample]) -> list[Sample]:
        """Advance these images by one step, and give those that are; the others have failed."""
        for sample, fault in culprits(picked, self._attempt).items():
            self._fail(sample, fault)
        return [sample for sample in picked if sample.flight is not None]

    def _attempt(self, samples: Sequence[Sample]) -> Exception | None:
        useful = sum(sample.rows_next for sample in samples)
        began = time.monotonic()
        try:
            rows = self._runner.tick([_flight(sample) for sample in samples])
        except DeviceLost:
            raise
        except OutOfMemory as error:
            self._scheduler.shrink(useful)
            return self._freed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, one image caused it
            return error
        self._scheduler.served(samples)
        self._queue.release(useful)
        for sample in samples:
            sample.job.steps_done += 1
        self._observe_tick(len(samples), rows, rows - useful, time.monotonic() - began)
        return None

    def _freed(self, error: OutOfMemory) -> OutOfMemory:
        self._metrics.out_of_memory.inc()
        bare = without_frames(error)
        self._runner.release_cached_memory()
        return bare

    def _settle(self, stepped: Sequence[Sample]) -> None:
        """Send what is finished to the decoder, and hand out what has come from there."""
        finished = [each for each in stepped if each.flight is not None and each.flight.done]
        if finished:
            self._start_decode(finished)
        self._deliver_decoded(wait=False)

    def _start_decode(self, finished: Sequence[Sample]) -> None:
        began = time.monotonic()

        def attempt(part: Sequence[Sample]) -> Exception | None:
            flights = [_flight(sample) for sample in part]
            decoding = self._tried(lambda: self._runner.start_decode(flights))
            if isinstance(decoding, Exception):
                return decoding
            self._decodes.append(Decode(part, decoding, began))
            return None

        for sample, fault in culprits(finished, attempt).items():
            self._fail(sample, fault)

    def _deliver_decoded(self, *, wait: bool) -> None:
        """Hand pixels to their jobs: those that are there, or all that are under way."""
        while self._decodes and (wait or self._decodes[0].decoding.done):
            decode = self._decodes.popleft()
            pixels = decode.decoding.pixels()
            now = time.monotonic()
            self._metrics.decode_duration.observe(now - decode.began)
            for job in dict.fromkeys(sample.job for sample in decode.samples):
                job.decode_s += now - decode.began
            for sample, image in zip(decode.samples, pixels):
                if image is None:
                    self._fail(sample, NotFinite())
                elif sample.flight is not None:  # else its job failed with another of its images
                    self._deliver(sample, image, now)

    def _deliver(self, sample: Sample, pixels: np.ndarray, now: float) -> None:
        self._metrics.denoise_steps.labels("useful").inc(sample.trajectory.row_steps)
        self._metrics.images.labels("ok").inc()
        self._scheduler.finish(sample)
        self._leave(sample)
        sample.job.deliver(sample.index, pixels, now)

    def _tried(self, work: Callable[[], Result]) -> Result | Exception:
        """What the work gives, or what went wrong with it.

        Raises:
            DeviceLost: everything went wrong.
        """
        try:
            return work()
        except DeviceLost:
            raise
        except OutOfMemory as error:
            return self._freed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, one image caused it
            return error

    def _fail(self, sample: Sample, error: Exception) -> None:
        """Fail one image, and its job with it."""
        if sample.flight is None:
            return  # its job failed with another of its images
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

    def _report_progress(self, stepped: Sequence[Sample]) -> None:
        """Tell the jobs that came further; images that were set aside have nothing to show."""
        for job in dict.fromkeys(sample.job for sample in stepped):
            if job.on_progress is not None and not job.future.done():
                shown = self._previews(job, [sample for sample in stepped if sample.job is job])
                job.on_progress(Progress(job.steps_done, job.steps, 0, shown))

    def _previews(self, job: Job, stepped: list[Sample]) -> tuple[tuple[int, np.ndarray], ...]:
        flying = [sample for sample in stepped if sample.flight is not None]
        due = [
            each for each in flying if job.preview_every and not each.steps_done % job.preview_every
        ]
        shown: list[tuple[int, np.ndarray]] = []

        def attempt(part: Sequence[Sample]) -> Exception | None:
            pixels = self._tried(lambda: self._runner.preview([_flight(each) for each in part]))
            if isinstance(pixels, Exception):
                return pixels
            images = zip(part, pixels)
            shown.extend((each.index, image) for each, image in images if image is not None)
            return None

        if due:
            culprits(due, attempt)  # they show nothing; whether they fail is seen at their end
        return tuple(shown)

    def _look_after_some(self) -> None:
        """See whether jobs that may not be picked for long are still wanted, a few at every step.

        Whoever waits is told how many are ahead.
        """
        for _ in range(min(LOOKED_AFTER, len(self._round))):
            job = self._round.popleft()
            if job.future.done() or self._dropped_as_unwanted(job):
                continue
            self._round.append(job)
            if job.on_progress is not None and job.joined is None:
                job.on_progress(Progress(0, job.steps, self._scheduler.ahead_of(job)))

    def _observe_tick(self, images: int, rows: int, padding: int, seconds: float) -> None:
        self._pace.observe(rows, seconds)
        self._metrics.tick_duration.observe(seconds)
        self._metrics.tick_rows.observe(rows)
        self._metrics.tick_images.observe(images)
        self._metrics.denoise_steps.labels("padding").inc(padding)

    def _observe_load(self) -> None:
        self._metrics.requests_running.set(self._scheduler.running)
        self._metrics.requests_waiting.set(self._scheduler.waiting)
        self._metrics.row_steps_waiting.set(self._queue.row_steps)
        for kind, size in self._runner.memory_bytes().items():
            self._metrics.gpu_memory.labels(kind).set(size)
        if self._row_limit != self._scheduler.row_limit:
            self._row_limit = self._scheduler.row_limit
            self._metrics.row_limit.set(self._row_limit)
            log.warning("row limit changed", rows=self._row_limit)


def _flight(sample: Sample) -> Flight:
    assert sample.flight is not None, "this is a bug: the image is not in flight"
    return sample.flight
