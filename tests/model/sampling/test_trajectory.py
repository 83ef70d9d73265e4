"""A trajectory: guided steps take two rows, and what has no table is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from model.sampling.fitted import FittedSolver
from model.sampling.parameters import SamplerName, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from tests.support.fitted_solvers import some_solver

SCHEDULE = NoiseSchedule()


def plan(
    *,
    cfg_scale: float = 1.5,
    steps: int = 5,
    sampler: SamplerName = "ddim",
    interval: tuple[float, float] = (0.0, 1.0),
    schedule: NoiseSchedule = SCHEDULE,
    fitted: Sequence[FittedSolver] = (),
) -> Trajectory:
    sampling = Sampling(
        class_label=0,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=sampler,
        seed=0,
        guidance_interval=interval,
    )
    return plan_trajectory(schedule, sampling, fitted)


def test_guidance_costs_a_row_only_where_it_applies() -> None:
    assert plan(cfg_scale=1.0).row_steps == 5
    assert plan(cfg_scale=1.1).row_steps == 10
    timesteps = plan(steps=11).table.timesteps / 999
    partial = plan(steps=11, interval=(0.3, 0.7))
    assert [rows == 2 for rows in partial.rows] == [0.3 <= t <= 0.7 for t in timesteps.tolist()]
    assert 0 < partial.row_steps - 11 < 11
    assert (partial.rows[0], partial.peak_rows) == (1, 2)
    assert plan(cfg_scale=1.0).peak_rows == 1


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ((0.0, 1.0), [True, True, True, True, True]),
        ((0.25, 0.75), [False, True, True, True, False]),
        ((0.2504, 0.7496), [False, False, True, False, False]),
        ((0.2496, 0.7504), [False, True, True, True, False]),
        ((0.5, 0.5), [False, False, True, False, False]),
        ((1.0, 1.0), [True, False, False, False, False]),
        ((0.0, 0.0), [False, False, False, False, True]),
    ],
)
def test_a_guidance_interval_has_both_its_ends(
    interval: tuple[float, float], guided: list[bool]
) -> None:
    schedule = NoiseSchedule(num_train_timesteps=1025)  # shares that are whole in binary
    steps = plan(steps=5, interval=interval, schedule=schedule)
    assert steps.table.timesteps.tolist() == [1024, 768, 512, 256, 0]
    assert [rows == 2 for rows in steps.rows] == guided


def test_guidance_at_pure_noise_alone_is_the_first_steps() -> None:
    assert plan(steps=4, interval=(1.0, 1.0)).rows == (2, 1, 1, 1)


def test_a_step_past_the_end_takes_no_row() -> None:
    trajectory = plan(steps=11, interval=(0.0, 0.15))
    assert [trajectory.rows_at(step) for step in range(13)] == [1] * 9 + [2, 2, 0, 0]
    assert trajectory.peak_rows == 2


def test_plan_refuses_what_no_table_exists_for() -> None:
    with pytest.raises(ValueError, match="sampler"):
        plan(sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"1 \.\. 1000"):
        plan(steps=1001)


def test_an_interval_may_end_on_any_timestep() -> None:
    for timestep in range(1000):
        share = timestep / 999
        rows = plan(sampler="ddpm", steps=1000, interval=(share, share)).rows
        assert rows.index(2) == 999 - timestep
        assert sum(rows) == 1001


def test_a_fitted_solver_is_chosen_by_steps_and_guidance() -> None:
    weak, strong = (
        some_solver(3, low=1.25, high=2.0),
        replace(some_solver(3, low=2.5, high=4.0), a=(0.9, 0.8, 0)),
    )
    two_steps = some_solver(2)

    def planned(steps: int, cfg_scale: float) -> list[float]:
        fitted = [weak, strong, two_steps]
        trajectory = plan(sampler="fitted", steps=steps, cfg_scale=cfg_scale, fitted=fitted)
        return trajectory.table.coefficients.flatten().tolist()

    for steps, cfg_scale, expected in [(3, 1.25, weak), (3, 4.0, strong), (2, 2.0, two_steps)]:
        assert planned(steps, cfg_scale) == expected.table(SCHEDULE).coefficients.flatten().tolist()
    for steps, cfg_scale in [(3, 2.2), (3, 1.0), (2, 4.0), (4, 1.5)]:
        with pytest.raises(ValueError, match=f"no solver is fitted to {steps} steps"):
            planned(steps, cfg_scale)
