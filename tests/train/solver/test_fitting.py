"""Fitting brings a student nearer to its teacher, the same way with and without an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.networks.dit import DiT
from model.train.solver.denoiser import GuidedDenoiser
from model.train.solver.fitting import Fitting, median_error
from model.train.solver.student import Student
from model.train.solver.teacher import BATCH, Examples, draw, teach
from tests.support.checkpoints import small_dit
from tests.train.solver.toy import SCHEDULE, toy_denoise

SHAPE = (4, 4, 4)
STEPS = 3


@pytest.fixture(scope="module")
def dit() -> DiT:
    return small_dit(hidden_size=32)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    drawn = draw(2 * BATCH, SHAPE, 5, seed=0)
    file = tmp_path_factory.mktemp("teacher") / "latents"
    return teach(
        toy_denoise, SCHEDULE, drawn, file, device=torch.device("cpu"), report=lambda _: None
    )


def fitting_in(file: Path, iterations: int) -> Fitting:
    return Fitting(Student(SCHEDULE, STEPS), file, iterations=iterations, seed=0)


def fitted(examples: Examples, file: Path, iterations: int) -> Student:
    fitting = fitting_in(file, iterations)
    fitting.run(toy_denoise, examples, lambda i, loss: None)
    return fitting.student


def test_the_error_falls(examples: Examples, tmp_path: Path) -> None:
    before = median_error(Student(SCHEDULE, STEPS), toy_denoise, examples)
    student = fitted(examples, tmp_path / "fit.pt", 60)
    assert median_error(student, toy_denoise, examples) < 0.5 * before


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(
    examples: Examples, tmp_path: Path
) -> None:
    whole = fitted(examples, tmp_path / "whole.pt", 4)

    def stop(iteration: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting_in(tmp_path / "fit.pt", 4).run(toy_denoise, examples, stop)
    assert fitting_in(tmp_path / "fit.pt", 4).iteration == 1
    continued = fitted(examples, tmp_path / "fit.pt", 4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name


def test_gradients_pass_through_a_frozen_model(dit: DiT) -> None:
    before = {name: value.clone() for name, value in dit.state_dict().items()}
    student = Student(SCHEDULE, STEPS)
    noises = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    student(GuidedDenoiser(dit, 1.5), noises, torch.tensor([0, 1])).square().mean().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in dit.parameters())
    assert all(torch.equal(value, before[name]) for name, value in dit.state_dict().items())


def test_guidance_is_that_of_the_model(dit: DiT) -> None:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(3, *SHAPE, generator=generator), torch.tensor([0, 3, 1])
    t = torch.tensor(400.5)
    null = torch.full_like(labels, dit.num_classes)
    expected = dit.forward_with_cfg(torch.cat([x, x]), t.expand(6), torch.cat([labels, null]), 2.5)[
        :3, : dit.in_channels
    ]
    torch.testing.assert_close(GuidedDenoiser(dit, 2.5)(x, t, labels), expected)


def test_a_model_without_a_null_class_cannot_be_guided() -> None:
    dit = DiT(
        input_size=4, hidden_size=32, depth=1, num_heads=2, num_classes=3, class_dropout_prob=0.0
    )
    GuidedDenoiser(dit, 1.0)
    with pytest.raises(ValueError, match="cfg_scale must be 1"):
        GuidedDenoiser(dit, 1.5)
