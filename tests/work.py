"""Jobs without a model: what the scheduler's and the queue's tests are made of."""

from __future__ import annotations

import torch

from model.diffusion import SamplerTable
from model.runner import TickTimes
from model.trajectory import Trajectory
from service.jobs import Job
from service.pace import Pace

NOWHERE = SamplerTable(torch.zeros(0), torch.zeros(0, 8))


def trajectory(rows: list[int], seed: int = 0) -> Trajectory:
    return Trajectory(0, 1.5, seed, NOWHERE, tuple(rows))


def job(
    name: str = "job", *images: list[int], deadline: float = 100.0, admitted: float = 0.0
) -> Job:
    """A job of images, each given as its rows at each step."""
    planned = tuple(trajectory(rows) for rows in images)
    return Job(id=name, deadline=deadline, admitted=admitted, trajectories=planned)


def steady_pace(seconds_a_tick: float = 0.1, max_rows: int = 10) -> Pace:
    """Every tick takes the same time, whatever its rows."""
    return Pace(TickTimes(seconds_a_tick, seconds_a_tick), max_rows)
