"""Warm-up: the trial images that the runner starts with, and what their ticks take."""

from __future__ import annotations

from dataclasses import dataclass

from model.sampling.parameters import WHOLE_RANGE, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory


@dataclass(frozen=True, slots=True)
class TickTimes:
    """Seconds of a tick of one row and of a full tick."""

    one_row: float
    full: float


def trial_trajectories(schedule: NoiseSchedule, count: int) -> list[Trajectory]:
    """Unguided images with different timesteps, as in a mixed tick."""
    return [
        plan_trajectory(
            schedule,
            Sampling(
                class_label=0,
                cfg_scale=1.0,
                num_sampling_steps=2 + seed % 64,
                sampler="ddpm",
                seed=seed,
                guidance_interval=WHOLE_RANGE,
            ),
        )
        for seed in range(count)
    ]
