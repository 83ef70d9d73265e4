"""The teacher solves the equation nearly exactly, and continues where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.sampling.schedule import NoiseSchedule
from model.train.solver.teacher import BATCH, draw, teach

SCHEDULE = NoiseSchedule()
CPU = torch.device("cpu")
DEVIATION = 0.5
"""Of the toy's pictures, whose every value is drawn from one normal distribution."""


def denoise(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """The exact answer for such pictures."""
    alpha_bar = SCHEDULE.alpha_bar[int(t)]
    noise: Tensor = x * (1 - alpha_bar) ** 0.5 / (alpha_bar * DEVIATION**2 + 1 - alpha_bar)
    return noise


def test_the_teacher_ends_where_the_equation_does(tmp_path: Path) -> None:
    examples = draw(3, (1, 4, 4), 5, seed=0)
    file = tmp_path / "teacher.safetensors"
    taught = teach(denoise, SCHEDULE, examples, file, device=CPU, report=lambda _: None)
    alpha_bar = SCHEDULE.alpha_bar[-1]
    factor = DEVIATION / (alpha_bar * DEVIATION**2 + 1 - alpha_bar) ** 0.5
    torch.testing.assert_close(taught.latents, factor * examples.noises, rtol=0.02, atol=1e-3)


def test_an_interrupted_teacher_continues(tmp_path: Path) -> None:
    examples = draw(2 * BATCH + 3, (1, 2, 2), 5, seed=0)
    whole = teach(
        denoise, SCHEDULE, examples, tmp_path / "a", device=CPU, report=lambda _: None
    ).latents
    calls = []

    def stop(done: int) -> None:
        calls.append(done)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(denoise, SCHEDULE, examples, tmp_path / "b", device=CPU, report=stop)
    taught = teach(denoise, SCHEDULE, examples, tmp_path / "b", device=CPU, report=stop)
    assert calls == [BATCH, 2 * BATCH, 2 * BATCH + 3]
    assert torch.equal(taught.latents, whole)


def test_classes_are_drawn_evenly() -> None:
    counts = draw(13, (1, 2, 2), 5, seed=0).labels.bincount()
    assert sorted(counts.tolist()) == [2, 2, 3, 3, 3]
