"""Engine: the service's admission, deadlines and scheduler, on a device that is a tick curve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bench.simulate.curve import TickCurve
from bench.simulate.outcome import Outcome
from bench.simulate.traffic import Request
from model.runner.flight import Flight
from model.sampling.noise import ImageNoise
from model.sampling.samplers import SamplerTable
from model.sampling.trajectory import Trajectory
from service.errors import QueueFull, ServiceError
from service.scheduling.admission import AdmissionQueue
from service.scheduling.deadlines import reason_to_drop
from service.scheduling.jobs import ImageTask, Job, flight_of
from service.scheduling.pace import Pace
from service.scheduling.scheduler import MakeScheduler

UNBOUNDED = 2**62
_NO_STEPS = SamplerTable(torch.zeros(0), torch.zeros(0, 8))
_NO_NOISE = ImageNoise(0, (0,))
_NO_PIXELS = np.zeros(0, np.uint8)

Slowness = Callable[[float], float]
"""How much longer than by its curve a device takes, at a time."""


def steady(_: float) -> float:
    """Of a device whose speed does not change."""
    return 1.0


class Engine:
    """One device and its jobs, in virtual time.

    Args:
        make_scheduler: as for the service's engine.
        max_queue_row_steps: the admission's bound.
        slowness: of the device.
    """

    def __init__(
        self,
        curve: TickCurve,
        make_scheduler: MakeScheduler,
        max_queue_row_steps: int = UNBOUNDED,
        slowness: Slowness = steady,
    ) -> None:
        self.now = 0.0
        self.outcomes: list[Outcome] = []
        self._curve = curve
        self._slowness = slowness
        self._queue = AdmissionQueue(max_queue_row_steps, clock=lambda: self._asked)
        self._asked = 0.0
        self._pace = Pace(curve.times, curve.max_rows)
        self._scheduler = make_scheduler(self._pace, lambda: self.now)
        self._requests: dict[Job, tuple[Request, int]] = {}

    @property
    def ongoing(self) -> int:
        """Requests admitted and not ended."""
        return len(self._requests)

    @property
    def row_steps(self) -> int:
        """The work that is left of them."""
        return self._queue.row_steps

    @property
    def left(self) -> list[tuple[int, int]]:
        """What is left of each: row-steps and images."""
        return self._queue.left

    def advance(self, until: float) -> None:
        """Run the ticks that begin before ``until``, or until nothing is left to do."""
        while self._requests and self.now < until:
            for job in self._queue.take():
                self._scheduler.add(job)
            self._tick()

    def offer(self, request: Request, at: float, tries: int = 1) -> float | None:
        """Send a request at this time, to which the engine has advanced.

        Returns the seconds after which to come again if the queue is full and the deadline allows it.
        """
        if not self._requests:
            self.now = max(self.now, at)
        self._asked = at
        trajectory = Trajectory(0, 1.5, request.number, _NO_STEPS, request.rows)
        trajectories = (trajectory,) * request.images
        deadline = request.at + request.timeout_s
        job = Job(str(request.number), deadline, at, trajectories, client=str(request.number))
        try:
            self._queue.offer(job, self._pace)
        except QueueFull as error:
            wait_s = error.retry_after_s or 0.0
            if at + wait_s < deadline:
                return wait_s
            self.outcomes.append(Outcome(request, None, tries))
        except ServiceError:
            self.outcomes.append(Outcome(request, None, tries))
        else:
            self._requests[job] = request, tries
        return None

    def _tick(self) -> None:
        picked = self._wanted()
        if not picked:
            return
        rows = [task.next_rows for task in picked]
        slowness = self._slowness(self.now)
        seconds = slowness * self._curve.seconds(sum(rows))
        for task in picked:
            if task.flight is None:
                task.flight = Flight(task.trajectory, 0, _NO_NOISE)
            task.flight.step += 1
        self.now += seconds
        self._pace.observe(sum(rows), seconds)
        self._scheduler.advanced(picked)
        for task, each in zip(picked, rows):
            task.job.steps_done += 1
            self._queue.work_off(task.job, each)
        done = [task for task in picked if flight_of(task).done]
        self.now += slowness * self._curve.decode_s * len(done)
        for task in done:
            self._scheduler.finish(task)
            task.job.pixels[task.index] = _NO_PIXELS
            if not task.job.images_left:
                self._end(task.job, self.now)

    def _wanted(self) -> list[ImageTask]:
        """The images of the next tick, without those whose deadline is out of reach."""
        while True:
            picked = self._scheduler.pick()
            lost = [task.job for task in picked if self._is_lost(task.job)]
            if not lost:
                return picked
            for job in dict.fromkeys(lost):
                self._scheduler.drop(job)
                self._end(job, None)

    def _is_lost(self, job: Job) -> bool:
        alone = len(self._requests) == 1
        return reason_to_drop(job, self._pace, self.now, alone=alone) is not None

    def _end(self, job: Job, ended: float | None) -> None:
        self._queue.forget(job)
        request, tries = self._requests.pop(job)
        self.outcomes.append(Outcome(request, ended, tries))
        if not self._requests:
            self._pace.rest()
