"""A trajectory: guided steps take two rows, and what has no table is refused."""

from __future__ import annotations

import pytest

from model.sampling.parameters import SamplerName, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory


def plan(
    *,
    cfg_scale: float = 1.5,
    steps: int = 5,
    sampler: SamplerName = "ddim",
    interval: tuple[float, float] = (0.0, 1.0),
) -> Trajectory:
    sampling = Sampling(
        class_label=0,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=sampler,
        seed=0,
        guidance_interval=interval,
    )
    return plan_trajectory(NoiseSchedule(), sampling)


def test_guidance_costs_a_row_only_where_it_applies() -> None:
    assert plan(cfg_scale=1.0).row_steps == 5
    assert plan(cfg_scale=1.1).row_steps == 10
    timesteps = plan(steps=11).table.timesteps / 999
    partial = plan(steps=11, interval=(0.3, 0.7))
    assert [rows == 2 for rows in partial.rows] == [0.3 <= t <= 0.7 for t in timesteps.tolist()]
    assert 0 < partial.row_steps - 11 < 11


def test_a_step_past_the_end_takes_no_row() -> None:
    trajectory = plan(steps=11, interval=(0.0, 0.15))
    assert [trajectory.rows_at(step) for step in range(13)] == [1] * 9 + [2, 2, 0, 0]
    assert trajectory.peak_rows == 2


def test_plan_refuses_what_no_table_exists_for() -> None:
    with pytest.raises(ValueError, match="sampler"):
        plan(sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"1 \.\. 1000"):
        plan(steps=1001)
