"""The Frechet distance."""

from __future__ import annotations

import pytest
import torch

from model.train.evaluation.frechet import frechet_distance


def test_frechet_distance_of_known_gaussians() -> None:
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(200_000, 3, generator=generator)
    b = torch.randn(200_000, 3, generator=generator) * 2 + 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    # |mean difference|^2 + sum (2 - 1)^2 over three dimensions
    assert frechet_distance(a, b) == pytest.approx(3 + 3, rel=0.02)
