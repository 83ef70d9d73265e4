"""A student samples as the table does that is written from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.sampling.samplers import SamplerTable, advance, sampler_table, two_estimate_table
from model.sampling.schedule import NoiseSchedule
from model.train.solver.student import Student

SCHEDULE = NoiseSchedule()
LABELS = torch.zeros(2, dtype=torch.long)


def denoise(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """Any smooth function of the latent and the timestep."""
    return torch.tanh(x * (0.3 + t / 1000))


def noises() -> Tensor:
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))


def sampled(table: SamplerTable) -> Tensor:
    """The final latents, by the engine's own step."""
    x, x0 = noises(), torch.zeros(2, 4, 3, 3)
    for t, coefficients in zip(table.timesteps, table.coefficients):
        answer = denoise(x, t, LABELS)
        x, x0 = advance(x, x0, answer, torch.zeros_like(x), coefficients.expand(2, -1))
    return x


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_an_unfitted_student_is_dpmpp_2m(steps: int) -> None:
    latents = Student(SCHEDULE, steps)(denoise, noises(), LABELS)
    expected = sampled(sampler_table(SCHEDULE, "dpmpp_2m", steps))
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def test_a_fitted_students_table_samples_as_the_student_does() -> None:
    student = Student(SCHEDULE, 5)
    with torch.no_grad():
        for parameter in student.parameters():
            generator = torch.Generator().manual_seed(2)
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
        student.timesteps.sub_(3.3)
    student.round()
    columns = student.columns()
    whole = [int(t) for t in columns.pop("timesteps")]
    table = two_estimate_table(SCHEDULE, whole, **columns)
    latents = student(denoise, noises(), LABELS)
    torch.testing.assert_close(latents, sampled(table), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_timesteps_and_every_coefficient() -> None:
    student = Student(SCHEDULE, 4)
    student(denoise, noises(), LABELS).square().sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


def test_rounded_timesteps_stay_in_the_schedule() -> None:
    student = Student(SCHEDULE, 3)
    with torch.no_grad():
        student.timesteps.copy_(torch.tensor([1003.7, -4.2]))
    student.round()
    assert student.columns()["timesteps"] == [999.0, 999.0, 0.0]


@pytest.mark.parametrize(
    ("timesteps", "c", "problem"),
    [
        ([999, 500, 500], [0, 0.1, 0.1], "must fall"),
        ([998, 500, 200], [0, 0.1, 0.1], "must fall from 999"),
        ([999, 500, -1], [0, 0.1, 0.1], "not below 0"),
        ([999, 500, 200], [0.1, 0.1, 0.1], "no estimate before it"),
        ([999, 500], [0, 0.1, 0.1], "one number for each step"),
        ([], [], "one number for each step"),
    ],
)
def test_a_table_that_no_sampler_can_have_is_refused(
    timesteps: list[int], c: list[float], problem: str
) -> None:
    ones = [1.0] * len(c)
    with pytest.raises(ValueError, match=problem):
        two_estimate_table(SCHEDULE, timesteps, a=ones, b=ones, c=c)
