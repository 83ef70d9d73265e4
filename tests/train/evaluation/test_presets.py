"""Presets chosen from an evaluation, and written into a model's card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from model.sampling.presets import recipe_for
from model.train.evaluation import presets
from model.train.evaluation.figures import Figures
from model.weights.checkpoint import load_checkpoint
from model.weights.errors import CheckpointError
from tests.support.checkpoints import write_pipeline
from tests.support.fitted_solvers import some_solver, write_solvers


def row(name: str, row_steps: float, distance: float, agreement: float = 0.995) -> Figures:
    figures = Figures(
        name, 1420, agreement, 0.0, 0.5, 1.0, 0.0, 1.0, row_steps, {"a": 1.0}, {"a": 1.0}
    )
    return replace(figures, frechet_distance=distance)


ROWS = [
    row("held-out, reconstructed", 0, 0.2),
    row("ddim 250 cfg 1.5", 500, 1.87),
    row("ddim 50 cfg 1.5", 100, 1.80),
    row("ddpm 50 cfg 1.5", 100, 1.78),
    row("fitted 6 cfg 1.5", 12, 1.77),
    row("fitted 3 cfg 1.5", 6, 1.785),
    row("fitted 3 cfg 1.5 in 0.3..1", 5, 1.786),
    row("fitted 3 cfg 1.5 in 0.7..1", 4, 1.786, agreement=0.985),
    row("dpmpp_2m 2 cfg 1.5", 4, 1.84),
    row("dpmpp_2m 1 cfg 1.5", 2, 2.5),
    row("ddim 2 cfg 2", 4, 1.0),
]


def write_figures(path: Path, rows: Sequence[Figures] = ROWS) -> Path:
    path.write_text(json.dumps({"rows": [asdict(each) for each in rows]}), encoding="utf-8")
    return path


def run(figures: Path, model: Path, cfg_range: str = "1.25-2", *more: str) -> None:
    options = ["--model", str(model), "--cfg-range", cfg_range, *more]
    presets.write(presets.options_parser().parse_args([str(figures), *options]))


def test_the_cheapest_that_is_as_good_as_the_best_is_balanced(tmp_path: Path) -> None:
    model = write_solvers(write_pipeline(tmp_path / "model"), [some_solver(3)])
    names = json.loads((model / "model_index.json").read_text(encoding="utf-8"))
    run(write_figures(tmp_path / "figures.json"), model)
    loaded = load_checkpoint(str(model), device=torch.device("cpu"), dtype=torch.float32)

    def chosen(quality: str, cfg_scale: float = 1.5) -> tuple[str, int, tuple[float, float]]:
        recipe = recipe_for(loaded.presets, quality, cfg_scale)  # type: ignore[arg-type]
        return recipe.sampler, recipe.num_sampling_steps, recipe.guidance_interval

    assert chosen("fast") == ("dpmpp_2m", 2, (0.0, 1.0))
    assert chosen("balanced") == ("fitted", 3, (0.3, 1.0))
    assert chosen("best") == ("ddpm", 50, (0.0, 1.0))
    assert chosen("balanced", 3.0) == ("dpmpp_2m", 20, (0.0, 1.0))
    written = json.loads((model / "model_index.json").read_text(encoding="utf-8"))
    assert {name: written[name] for name in names} == names


def test_a_setting_can_be_left_out_of_the_choice(tmp_path: Path) -> None:
    model = write_solvers(write_pipeline(tmp_path / "model"), [some_solver(3)])
    figures = write_figures(tmp_path / "figures.json")
    run(figures, model, "1.25-2", "--without", "fitted:3:1.5:0.3-1", "ddpm:50:1.5")
    written = json.loads((model / "model_index.json").read_text(encoding="utf-8"))["presets"]
    assert written["balanced"][0]["guidance_interval"] == [0.0, 1.0]
    assert written["best"][0]["sampler"] == "ddim"


def test_what_the_model_cannot_do_at_all_of_the_guidance_is_not_written(tmp_path: Path) -> None:
    model = write_solvers(write_pipeline(tmp_path / "model"), [some_solver(3)])
    before = (model / "model_index.json").read_bytes()
    with pytest.raises(CheckpointError, match="no solver is fitted to this at all of cfg_scale"):
        run(write_figures(tmp_path / "figures.json"), model, "1-2")
    assert (model / "model_index.json").read_bytes() == before


def test_an_evaluation_of_other_guidance_is_refused(tmp_path: Path) -> None:
    figures = write_figures(tmp_path / "figures.json", ROWS[-1:])
    with pytest.raises(ValueError, match="no generated pictures at this guidance"):
        run(figures, tmp_path)
