"""python -m model.train.solver: fits, judges, and writes only what is better."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from model.sampling.fitted import FittedSolver
from model.train.solver.__main__ import fit_solver
from model.train.solver.options import options_parser
from model.weights.checkpoint import load_checkpoint
from model.weights.fitted_solvers import read_fitted_solvers
from tests.train.solver.toy import toy_denoise

QUICK = ("--noises", "32", "--held-out", "16", "--iterations", "30", "--device", "cpu")


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser that can be fitted in place of a random network, which has no pictures."""
    monkeypatch.setattr(
        "model.train.solver.__main__.GuidedDenoiser", lambda dit, scale: toy_denoise
    )


def fit(model: Path, work: Path, *arguments: str) -> None:
    common = ["--model", str(model), "--work", str(work), "--dtype", "float32", *QUICK]
    fit_solver(options_parser(None).parse_args([*common, *arguments]))


def solvers_of(model: Path, file: Path) -> tuple[FittedSolver, ...]:
    checkpoint = load_checkpoint(str(model), device=torch.device("cpu"), dtype=torch.float32)
    return read_fitted_solvers(file, digest=checkpoint.digest, schedule=checkpoint.schedule)


def test_tables_are_added_to_the_file_and_replaced(pipeline_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "solvers.json"
    out = ("--out", str(file))
    fit(pipeline_folder, tmp_path, *out, "--steps", "4", "--cfg-scale", "2")
    fit(pipeline_folder, tmp_path, *out, "--steps", "3", "--cfg-scale", "1.5")
    fit(pipeline_folder, tmp_path, *out, "--steps", "3", "--cfg-scale", "1.75")
    first, second = solvers_of(pipeline_folder, file)
    assert (first.num_sampling_steps, first.cfg_scale, first.low, first.high) == (
        3,
        1.75,
        1.5,
        2.25,
    )
    assert (second.num_sampling_steps, second.cfg_scale) == (4, 2.0)
    assert first.error < first.error_dpmpp_2m
    assert first.covers(1.5)
    assert not first.covers(1.4)


def test_a_solver_that_is_not_better_is_not_written(
    pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "solvers.json"
    with pytest.raises(ValueError, match=r"not better than dpmpp_2m at cfg_scale 1\.5"):
        fit(
            pipeline_folder, tmp_path, "--out", str(file), "--cfg-scale", "1.5", "--iterations", "0"
        )
    assert not file.exists()
    assert "of dpmpp_2m" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--cfg-scale", "1.5", "--cfg-range", "2", "3"), "--cfg-range must hold"),
        (("--cfg-scale", "30"), "1 .. 20"),
    ],
)
def test_a_range_without_the_guidance_is_refused(
    pipeline_folder: Path, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        fit(pipeline_folder, tmp_path, "--out", str(tmp_path / "f.json"), *arguments)


def test_a_model_of_the_hub_needs_to_be_told_where_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--out"):
        fit(Path("owner/name"), tmp_path)


def test_the_table_lies_beside_the_schedulers_configuration(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    file = pipeline_folder / "scheduler" / "fitted_solvers.json"
    try:
        fit(pipeline_folder, tmp_path, "--steps", "3")
        content = json.loads(file.read_text(encoding="utf-8"))
    finally:
        file.unlink(missing_ok=True)
    assert content["solvers"][0]["timesteps"][0] == 999
