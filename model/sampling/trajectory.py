"""Trajectory: one image's path from noise to clean latent, fully known before its first step."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from model.sampling.fitted import FittedSolver, fitted_solver
from model.sampling.ns import ns_table
from model.sampling.parameters import Sampling
from model.sampling.samplers import SamplerTable, sampler_table
from model.sampling.schedule import NoiseSchedule


@dataclass(frozen=True)
class Trajectory:
    """What one image does at every step.

    ``rows`` is its number of forward rows at each step: two where it is guided (its class and the
    null class), else one. Guidance applies to the first ``cfg_channels`` channels of the noise, as
    far as there are as many.
    """

    class_label: int
    cfg_scale: float
    seed: int
    table: SamplerTable
    rows: tuple[int, ...]
    cfg_channels: float = math.inf

    @property
    def steps(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def row_steps(self) -> int:
        return sum(self.rows)

    @property
    def unguided_steps(self) -> int:
        """Steps of a guided image that lie outside its guidance interval: each saves a row."""
        return 0 if self.cfg_scale == 1.0 else 2 * self.steps - self.row_steps

    @functools.cached_property
    def peak_rows(self) -> int:
        """The most forward rows of any step."""
        return max(self.rows)

    def rows_at(self, step: int) -> int:
        """Forward rows of a step; 0 past the last one."""
        return self.rows[step] if step < len(self.rows) else 0


def plan_trajectory(
    schedule: NoiseSchedule, sampling: Sampling, fitted: Iterable[FittedSolver] = ()
) -> Trajectory:
    """Plan one image. ``fitted`` are the solvers that the model has.

    Raises:
        ValueError: the step count exceeds the schedule's timesteps, or there is no table for it.
    """
    table = _table(schedule, sampling, fitted)
    guided = guided_steps(schedule, table, sampling.cfg_scale, sampling.guidance_interval)
    return Trajectory(
        class_label=sampling.class_label,
        cfg_scale=sampling.cfg_scale,
        seed=sampling.seed,
        table=table,
        rows=tuple(2 if each else 1 for each in guided),
        cfg_channels=math.inf if sampling.cfg_channels is None else sampling.cfg_channels,
    )


def _table(
    schedule: NoiseSchedule, sampling: Sampling, fitted: Iterable[FittedSolver]
) -> SamplerTable:
    steps = sampling.num_sampling_steps
    if sampling.sampler == "fitted":
        return fitted_solver(fitted, steps, sampling.cfg_scale).table(schedule)
    if sampling.sampler == "ns":
        return ns_table(steps)
    return sampler_table(schedule, sampling.sampler, steps)


def guided_steps(
    schedule: NoiseSchedule,
    table: SamplerTable,
    cfg_scale: float,
    guidance_interval: tuple[float, float],
) -> list[bool]:
    """Whether each step is guided.

    Guidance applies where the timestep, as a fraction of the noise range from 0 (picture) to 1 (pure
    noise), is in ``guidance_interval``, both ends included (Kynkaanniemi et al. 2024, arXiv
    2404.07724). At ``cfg_scale`` 1 guidance changes nothing, so no step is guided.
    """
    low, high = guidance_interval
    fractions = (table.timesteps.double() / (schedule.num_train_timesteps - 1)).tolist()
    return [cfg_scale != 1.0 and low <= fraction <= high for fraction in fractions]
