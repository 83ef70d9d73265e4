"""The presets of a model: from its card, from its fitted solvers, or those of any model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.sampling import ns
from model.sampling.presets import ANY_MODEL, Presets, Recipe, recipe_for
from model.weights.checkpoint import load_checkpoint
from model.weights.errors import CheckpointError
from tests.support.checkpoints import edit_json, write_pipeline
from tests.support.fitted_solvers import some_solver, write_solvers


def write_presets(folder: Path, presets: object) -> None:
    edit_json(folder / "model_index.json", presets=presets)


def presets_of(folder: Path) -> Presets:
    return load_checkpoint(str(folder), device=torch.device("cpu"), dtype=torch.float32).presets


def test_a_model_about_which_nothing_is_known_takes_dpmpp_2m(tmp_path: Path) -> None:
    presets = presets_of(write_pipeline(tmp_path))
    assert presets == ANY_MODEL
    assert recipe_for(presets, "balanced", 4.0) == Recipe(sampler="dpmpp_2m", num_sampling_steps=20)


def test_fitted_solvers_serve_the_guidance_they_were_fitted_to(tmp_path: Path) -> None:
    presets = presets_of(write_solvers(write_pipeline(tmp_path), [some_solver(2), some_solver(3)]))

    def found(quality: str, cfg_scale: float) -> tuple[str, int]:
        recipe = recipe_for(presets, quality, cfg_scale)  # type: ignore[arg-type]
        return recipe.sampler, recipe.num_sampling_steps

    assert found("fast", 1.5) == ("fitted", 2)
    assert found("balanced", 1.25) == found("balanced", 2.0) == ("fitted", 3)
    assert found("balanced", 1.0) == found("balanced", 2.1) == ("dpmpp_2m", 20)
    assert found("best", 1.5) == ("dpmpp_2m", 50)


def test_the_card_comes_first_and_the_rest_covers_what_it_leaves_out(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path)
    write_presets(
        folder,
        {
            "balanced": [
                {
                    "sampler": "ddpm",
                    "num_sampling_steps": 7,
                    "guidance_interval": [0.25, 0.75],
                    "cfg_scale": [1, 2],
                }
            ]
        },
    )
    presets = presets_of(folder)
    own = Recipe(
        sampler="ddpm", num_sampling_steps=7, guidance_interval=(0.25, 0.75), low=1.0, high=2.0
    )
    assert presets["balanced"] == (own, *ANY_MODEL["balanced"])
    assert presets["fast"] == ANY_MODEL["fast"]
    assert recipe_for(presets, "balanced", 2.5) == ANY_MODEL["balanced"][0]


def test_a_card_may_not_ask_for_more_steps_than_a_request(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path)
    edit_json(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=4000)
    write_presets(folder, {"best": [{"sampler": "ddim", "num_sampling_steps": 1001}]})
    with pytest.raises(CheckpointError, match="must be a whole number from 1 to 1000"):
        presets_of(folder)


def test_dit_xl_2_takes_its_searched_solver_for_little_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ns, "ARCHITECTURE", "DiT 2x128/2")  # that of the small model
    folder = write_pipeline(tmp_path)
    presets = presets_of(folder)
    assert recipe_for(presets, "balanced", 1.5) == Recipe(
        sampler="ns", num_sampling_steps=10, low=1.0, high=2.0
    )
    assert recipe_for(presets, "fast", 2.0).num_sampling_steps == 8
    assert recipe_for(presets, "best", 1.5) == ANY_MODEL["best"][0]
    assert recipe_for(presets, "balanced", 4.0) == ANY_MODEL["balanced"][0]
    write_presets(folder, {"fast": [SEARCHED | {"cfg_scale": [1.5, 2]}]})
    assert recipe_for(presets_of(folder), "fast", 1.75).num_sampling_steps == 7
    write_presets(folder, {"fast": [SEARCHED | {"cfg_scale": [1.5, 3]}]})
    with pytest.raises(CheckpointError, match="no table for this model, steps and guidance"):
        presets_of(folder)


SEARCHED = {"sampler": "ns", "num_sampling_steps": 7, "cfg_scale": [1, 2]}
GOOD = {"sampler": "ddim", "num_sampling_steps": 5}


@pytest.mark.parametrize(
    ("presets", "complaint"),
    [
        ([], "presets is .*, but must be an object"),
        ({"better": []}, "presets has 'better', but knows only fast, balanced, best"),
        ({"fast": GOOD}, r"presets\.fast must be a list of objects"),
        ({"fast": [GOOD | {"sampler": "euler"}]}, 'sampler is "euler", but must be one of ddim'),
        ({"fast": [GOOD | {"num_sampling_steps": 1001}]}, "whole number from 1 to 1000"),
        ({"fast": [{"sampler": "ddim"}]}, "num_sampling_steps is null, but must be a whole number"),
        ({"fast": [GOOD | {"guidance_interval": [0.8, 0.2]}]}, "must ascend within 0 .. 1"),
        ({"fast": [GOOD | {"guidance_interval": 1}]}, "must be a list of two numbers"),
        (
            {"fast": [GOOD | {"cfg_scale": [1, 30]}]},
            "cfg_scale is .*, but must ascend within 1 .. 20",
        ),
        ({"fast": [GOOD | {"steps": 5}]}, "steps is 5, but this service does not know it"),
        (
            {"fast": [{"sampler": "fitted", "num_sampling_steps": 3, "cfg_scale": [1, 2]}]},
            "no solver is fitted to this at all of cfg_scale 1 .. 2",
        ),
        ({"fast": [SEARCHED]}, 'sampler is "ns", but has no table for this model'),
    ],
)
def test_a_malformed_card_is_refused_by_name(
    tmp_path: Path, presets: object, complaint: str
) -> None:
    folder = write_solvers(write_pipeline(tmp_path), [some_solver(3)])
    write_presets(folder, presets)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        presets_of(folder)
    assert "model_index.json" in str(caught.value)
