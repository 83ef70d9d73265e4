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
from model.weights.checkpoint import Checkpoint, load_checkpoint
from model.weights.errors import CheckpointError
from model.weights.fitted_solvers import (
    read_fitted_solvers,
    with_solver,
    write_fitted_solvers,
)
from tests.support.checkpoints import small_dit, write_pipeline, write_tensors, write_vae
from tests.support.fitted_solvers import some_solver, write_solvers

DIGEST = "ab" * 32
SCHEDULE = NoiseSchedule()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "solvers.json"
    write_fitted_solvers(file, digest=DIGEST, solvers=[some_solver(), some_solver(2)])
    read = read_fitted_solvers(file, digest=DIGEST, schedule=SCHEDULE)
    assert read == (some_solver(2), some_solver())
    table = read[1].table(SCHEDULE)
    expected = two_estimate_table(
        SCHEDULE, [999, 600, 200], a=[1, 0.75, 0], b=[0.25, 0.5, 1.5], c=[0, -0.125, -0.5]
    )
    assert torch.equal(table.coefficients, expected.coefficients)
    assert table.timesteps.tolist() == [999, 600, 200]


def test_weights_that_have_changed_since_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "solvers.json"
    write_fitted_solvers(file, digest=DIGEST, solvers=[some_solver()])
    with pytest.raises(CheckpointError, match="fit anew, or remove the file"):
        read_fitted_solvers(file, digest="cd" * 32, schedule=SCHEDULE)


def test_a_solver_takes_the_place_of_those_it_overlaps() -> None:
    low, high = some_solver(low=1.0, high=1.5), some_solver(low=3.0, high=4.0)
    other_steps, added = some_solver(2), some_solver(low=1.5, high=2.0)
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
    write_fitted_solvers(file, digest=DIGEST, solvers=[some_solver()])
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=problem):
        read_fitted_solvers(file, digest=DIGEST, schedule=SCHEDULE)


def test_a_folder_brings_its_solvers(tmp_path: Path) -> None:
    folder = write_solvers(write_pipeline(tmp_path), [some_solver(2), some_solver(3)])
    checkpoint = load_checkpoint(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    assert checkpoint.fitted == (some_solver(2), some_solver(3))


def test_a_single_file_has_its_solvers_beside_it(tmp_path: Path) -> None:
    vae = write_vae(tmp_path / "vae")
    file = write_tensors(tmp_path / "dit.pt", small_dit().state_dict())

    def load() -> Checkpoint:
        cpu = torch.device("cpu")
        return load_checkpoint(
            str(file), device=cpu, dtype=torch.float32, vae=str(vae), num_heads=2
        )

    write_solvers(file, [some_solver()], load().digest)
    assert (tmp_path / "dit.fitted_solvers.json").is_file()
    assert load().fitted == (some_solver(),)


def test_solvers_of_other_weights_end_the_start(tmp_path: Path) -> None:
    folder = write_solvers(write_pipeline(tmp_path), [some_solver()], DIGEST)
    with pytest.raises(CheckpointError, match="fit anew, or remove the file"):
        load_checkpoint(str(folder), device=torch.device("cpu"), dtype=torch.float32)


def test_a_solvers_table_is_made_once() -> None:
    assert some_solver().table(SCHEDULE) is some_solver().table(SCHEDULE)
