"""Pictures to evaluate, sampled by the same ModelRunner that serves them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from model.runner.build import build_runner
from model.runner.runner import Flight, ModelRunner
from model.sampling.ns import ARCHITECTURE
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.train.evaluation.setting import EvaluationSetting
from model.weights.checkpoint import Checkpoint

MAX_ROWS = {"cuda": 128, "cpu": 32}
"""Rows per tick, the service's defaults. 16, 64 and 142 were no faster on two CPU cores."""


def evaluation_runner(checkpoint: Checkpoint) -> ModelRunner:
    """The runner that samples pictures for an evaluation.

    It is reproducible, so a picture does not depend on those sampled with it: a service with
    DIT_REPRODUCIBLE gives the same pixels. On two CPU cores this costs 3 % of the time.
    """
    max_rows = MAX_ROWS[checkpoint.device.type]
    return build_runner(checkpoint, max_rows=max_rows, reproducible=True)


def generate(
    runner: ModelRunner, labels: Tensor, setting: EvaluationSetting, seed: int = 0
) -> Tensor:
    """Sample uint8 pictures (N, 3, S, S) of the classes (N,); the i-th has the seed ``seed + i``.

    Raises:
        ValueError: the model has no such sampler, or a picture has values that are not finite.
    """
    checkpoint = runner.checkpoint
    if setting.sampler == "ns" and not checkpoint.offers_ns:
        raise ValueError(f"{setting}: ns is for {ARCHITECTURE}, this is {checkpoint.architecture}")
    trajectories = [
        _plan(checkpoint, setting, label, seed + i) for i, label in enumerate(labels.tolist())
    ]
    pictures: dict[int, np.ndarray] = {}
    for i, picture in _sample(runner, trajectories):
        if picture is None:
            raise ValueError(f"{setting}: the picture with seed {seed + i} is not finite")
        pictures[i] = picture
    in_order = np.stack([pictures[i] for i in range(len(trajectories))])  # (N, S, S, 3)
    return torch.from_numpy(in_order).permute(0, 3, 1, 2).contiguous()


def row_steps(checkpoint: Checkpoint, setting: EvaluationSetting) -> int:
    """Forward rows of one picture, over all its steps."""
    return _plan(checkpoint, setting, label=0, seed=0).row_steps


def _plan(checkpoint: Checkpoint, setting: EvaluationSetting, label: int, seed: int) -> Trajectory:
    return plan_trajectory(checkpoint.schedule, setting.sampling(label, seed), checkpoint.fitted)


def _sample(
    runner: ModelRunner, trajectories: list[Trajectory]
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Keep the runner's rows filled; yields (index, pixels) as images finish."""
    waiting = deque(enumerate(trajectories))
    in_flight: dict[int, Flight] = {}
    free_rows = runner.max_rows
    while waiting or in_flight:
        while waiting and waiting[0][1].peak_rows <= free_rows:
            i, trajectory = waiting.popleft()
            in_flight[i] = runner.join(trajectory)
            free_rows -= trajectory.peak_rows
        runner.tick(list(in_flight.values()))
        finished = {i: flight for i, flight in in_flight.items() if flight.done}
        if not finished:
            continue
        yield from zip(finished, runner.decode(list(finished.values())))
        for i, flight in finished.items():
            runner.leave(in_flight.pop(i))
            free_rows += flight.trajectory.peak_rows
