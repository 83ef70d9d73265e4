"""Jobs without a model: what the scheduler's and the queue's tests are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from model.runner.runner import Flight, TickTimes
from model.sampling.noise import ImageNoise
from model.sampling.samplers import SamplerTable
from model.sampling.trajectory import Trajectory
from service.scheduling.jobs import ImageTask, Job
from service.scheduling.pace import Pace
from service.scheduling.scheduler import Scheduler

NOWHERE = SamplerTable(torch.zeros(0), torch.zeros(0, 8))
SILENT = ImageNoise(0, (0,))


def trajectory(rows: Sequence[int], seed: int = 0) -> Trajectory:
    return Trajectory(0, 1.5, seed, NOWHERE, tuple(rows))


def job(
    name: str = "job",
    *images: Sequence[int],
    deadline: float = 100.0,
    admitted: float = 0.0,
    client: str | None = None,
) -> Job:
    """A job of images, each given as its rows at each step, by default of a client of its own."""
    planned = tuple(trajectory(rows) for rows in images)
    return Job(
        id=name,
        deadline=deadline,
        admitted=admitted,
        trajectories=planned,
        client=name if client is None else client,
    )


def step(scheduler: Scheduler) -> list[ImageTask]:
    """One tick without a model; gives its images. Those that are done leave."""
    picked = scheduler.pick()
    for sample in picked:
        if sample.flight is None:
            sample.flight = Flight(sample.trajectory, 0, SILENT)
        sample.flight.step += 1
    scheduler.advanced(picked)
    for sample in picked:
        if not sample.next_rows:
            scheduler.finish(sample)
    return picked


def steady_pace(seconds_a_tick: float = 0.1, max_rows: int = 10) -> Pace:
    """Every tick takes the same time, whatever its rows."""
    return Pace(TickTimes(seconds_a_tick, seconds_a_tick), max_rows)
