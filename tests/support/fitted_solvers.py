"""Models with fitted solvers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from model.sampling.fitted import FittedSolver
from model.weights.checkpoint import load_checkpoint
from model.weights.fitted_solvers import fitted_solvers_file, write_fitted_solvers


def some_solver(steps: int = 3, *, low: float = 1.25, high: float = 2.0) -> FittedSolver:
    """A solver of at most three steps."""
    return FittedSolver(
        timesteps=(999, 600, 200)[:steps],
        a=(1.0, 0.75, 0.0)[:steps],
        b=(0.25, 0.5, 1.5)[:steps],
        c=(0.0, -0.125, -0.5)[:steps],
        cfg_scale=low,
        low=low,
        high=high,
        error=0.25,
        error_dpmpp_2m=0.5,
    )


def write_solvers(model: Path, solvers: Sequence[FittedSolver], digest: str = "") -> Path:
    """Give a model these solvers, under its own digest if none is named."""
    if not digest:
        cpu = torch.device("cpu")
        digest = load_checkpoint(str(model), device=cpu, dtype=torch.float32).digest
    write_fitted_solvers(fitted_solvers_file(model), digest=digest, solvers=solvers)
    return model
