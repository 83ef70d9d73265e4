"""Jobs without a model, for the tests of scheduling."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from model.runner.runner import Flight, TickTimes
from model.sampling.noise import ImageNoise
from model.sampling.samplers import SamplerTable
from model.sampling.trajectory import Trajectory
from service.scheduling.jobs import ImageTask, Job
from service.scheduling.pace import SURE_TICKS, Pace
from service.scheduling.scheduler import Scheduler

NO_STEPS = SamplerTable(torch.zeros(0), torch.zeros(0, 8))
NO_NOISE = ImageNoise(0, (0,))


def trajectory(rows: Sequence[int], seed: int = 0) -> Trajectory:
    return Trajectory(0, 1.5, seed, NO_STEPS, tuple(rows))


def job(
    name: str = "job",
    *images: Sequence[int],
    deadline: float = 100.0,
    admitted: float = 0.0,
    client: str | None = None,
) -> Job:
    """A job of images, each given by its rows at each step. By default it has its own client."""
    planned = tuple(trajectory(rows) for rows in images)
    return Job(
        id=name,
        deadline=deadline,
        admitted=admitted,
        trajectories=planned,
        client=name if client is None else client,
    )


def due_in(seconds: float, *images: Sequence[int]) -> Job:
    """A job whose deadline is this far away on the real clock; of one short image by default."""
    now = time.monotonic()
    return job("a job", *(images or ([1],)), deadline=now + seconds, admitted=now)


def step(scheduler: Scheduler) -> list[ImageTask]:
    """Run one tick without a model; returns its images. Finished ones leave the scheduler."""
    picked = scheduler.pick()
    for task in picked:
        if task.flight is None:
            task.flight = Flight(task.trajectory, 0, NO_NOISE)
        task.flight.step += 1
        task.job.steps_done += 1
    scheduler.advanced(picked)
    for task in picked:
        if not task.next_rows:
            scheduler.finish(task)
    return picked


def steady_pace(seconds_per_tick: float = 0.1, max_rows: int = 10) -> Pace:
    """A pace at which every tick takes the same time, whatever its rows, as measured."""
    return measured_pace(TickTimes(seconds_per_tick, seconds_per_tick), max_rows)


def measured_pace(times: TickTimes, max_rows: int) -> Pace:
    """A pace that has seen enough ticks to be sure of the warm-up's times."""
    pace = Pace(times, max_rows)
    for _ in range(SURE_TICKS):
        pace.observe(max_rows, times.full)
    return pace
