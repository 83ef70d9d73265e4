"""The file of fitted solvers: read as written, refused where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.sampling.samplers import two_estimate_table
from model.sampling.schedule import NoiseSchedule
from model.weights.errors import CheckpointError
from model.weights.fitted_solvers import (
    FittedSolver,
    read_fitted_solvers,
    with_solver,
    write_fitted_solvers,
)

DIGEST = "ab" * 32
SCHEDULE = NoiseSchedule()


def solver(*, steps: int = 3, low: float = 1.25, high: float = 2.0) -> FittedSolver:
    return FittedSolver(
        timesteps=[999, 600, 200][:steps],
        a=[1.0, 0.75, 0.0][:steps],
        b=[0.25, 0.5, 1.5][:steps],
        c=[0.0, -0.125, -0.5][:steps],
        cfg_scale=1.5,
        low=low,
        high=high,
        error=0.25,
        error_dpmpp_2m=0.5,
    )


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "solvers.json"
    write_fitted_solvers(file, digest=DIGEST, solvers=[solver(), solver(steps=2)])
    read = read_fitted_solvers(file, digest=DIGEST, schedule=SCHEDULE)
    assert read == (solver(steps=2), solver())
    table = read[1].table(SCHEDULE)
    expected = two_estimate_table(
        SCHEDULE, [999, 600, 200], a=[1, 0.75, 0], b=[0.25, 0.5, 1.5], c=[0, -0.125, -0.5]
    )
    assert torch.equal(table.coefficients, expected.coefficients)
    assert table.timesteps.tolist() == [999, 600, 200]


def test_weights_that_have_changed_since_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "solvers.json"
    write_fitted_solvers(file, digest=DIGEST, solvers=[solver()])
    with pytest.raises(CheckpointError, match="fit anew, or remove the file"):
        read_fitted_solvers(file, digest="cd" * 32, schedule=SCHEDULE)


def test_a_solver_takes_the_place_of_those_it_overlaps() -> None:
    low, high = solver(low=1.0, high=1.5), solver(low=3.0, high=4.0)
    other_steps, added = solver(steps=2), solver(low=1.5, high=2.0)
    assert with_solver([low, high, other_steps], added) == (high, other_steps, added)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content.update(solvers={}), "solvers is {}"),
        (lambda content: content["solvers"].append(7), "solvers must hold objects"),
        (lambda content: content["solvers"][0].update(a="1, 2"), "a is"),
        (lambda content: content["solvers"][0].update(a=[1.0, None, 0.0]), "a is"),
        (lambda content: content["solvers"][0].update(b=[1.0]), "one number for each step"),
        (lambda content: content["solvers"][0].update(timesteps=[999, 600.5, 200]), "timesteps"),
        (lambda content: content["solvers"][0].update(timesteps=[999, 200, 600]), "must fall"),
        (lambda content: content["solvers"][0].update(low=3.0), "low is 3.0"),
    ],
)
def test_a_broken_file_is_refused_by_its_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    file = tmp_path / "solvers.json"
    write_fitted_solvers(file, digest=DIGEST, solvers=[solver()])
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=problem):
        read_fitted_solvers(file, digest=DIGEST, schedule=SCHEDULE)
