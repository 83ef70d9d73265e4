"""What a model was trained with is reproduced, or refused by name."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import pytest

from model.sampling.schedule import NoiseSchedule
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError
from model.weights.schedules import SCHEDULERS, check_training, read_schedule
from tests.support.checkpoints import edit_json, scheduler_config, write_json

OTHERS = [
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "PNDMScheduler",
    "LCMScheduler",
    "EDMEulerScheduler",
    "UniPCMultistepScheduler",
    "Unheard-of",
]


def read(path: Path, pipeline: object = None, lines: list[str] | None = None) -> NoiseSchedule:
    index = JsonFile(path.with_name("model_index.json"), {"scheduler": pipeline})
    return read_schedule(path, index, list[str]().append if lines is None else lines.append)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_that_diffusers_saved_is_read(name: str, tmp_path: Path) -> None:
    getattr(diffusers, name)().save_pretrained(tmp_path)
    path = tmp_path / "scheduler_config.json"
    assert read(path, ["diffusers", name]) == NoiseSchedule()
    getattr(diffusers, name)(num_train_timesteps=500, beta_start=1e-3).save_pretrained(tmp_path)
    assert read(path) == NoiseSchedule(500, beta_start=1e-3)


@pytest.mark.parametrize("name", OTHERS)
def test_a_scheduler_that_we_do_not_reproduce_is_refused_by_name(name: str, tmp_path: Path) -> None:
    config = scheduler_config()
    path = write_json(tmp_path / "s.json", config | {"_class_name": name})
    with pytest.raises(CheckpointError, match=f's.json: _class_name is "{name}", but must be one'):
        read(path)
    write_json(path, {key: value for key, value in config.items() if key != "_class_name"})
    with pytest.raises(
        CheckpointError, match=r"model_index.json: scheduler is .*must be one of DDIM"
    ):
        read(path, ["diffusers", name])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_schedule", "squaredcos_cap_v2"),
        ("prediction_type", "sample"),
        ("prediction_type", "flow_prediction"),
        ("prediction_type", "score"),
        ("rescale_betas_zero_snr", True),
        ("trained_betas", [0.1]),
        ("thresholding", True),
        ("use_flow_sigmas", True),
        ("use_dynamic_shifting", True),
        ("shift_terminal", 0.02),
        ("shift", 3.0),
        ("invert_sigmas", True),
        ("something_new", "x"),
    ],
)
def test_a_key_that_changes_the_model_is_refused_by_name(
    key: str, value: object, tmp_path: Path
) -> None:
    path = write_json(tmp_path / "s.json", scheduler_config() | {key: value})
    with pytest.raises(CheckpointError, match=f"s.json: {key} is "):
        read(path)
    edit_json(path, **{key: None})
    assert read(path) == NoiseSchedule()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"clip_sample": True}, "clip_sample not applied"),
        ({"timestep_spacing": "trailing"}, "timestep_spacing not applied"),
        ({"set_alpha_to_one": False, "clip_sample": True}, "clip_sample, set_alpha_to_one not"),
        ({"timestep_spacing": "leading", "set_alpha_to_one": True, "clip_sample": False}, ""),
    ],
)
def test_what_only_says_how_diffusers_samples_is_logged(
    changes: dict[str, object], line: str, tmp_path: Path
) -> None:
    lines = list[str]()
    read(write_json(tmp_path / "s.json", scheduler_config() | changes), lines=lines)
    assert line in "".join(lines)
    assert bool(lines) == bool(line)


@pytest.mark.parametrize(
    "arguments",
    [
        {"prediction": "velocity", "path_type": "Linear"},  # SiT's train.py
        {"path_type": "GVP"},
        {"prediction": "score"},
        {"prediction_type": "v_prediction"},
        {"parameterization": "v"},
        {"objective": "pred_v"},
        {"objective": "pred_x0"},
        {"predict_xstart": True},
        {"noise_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "cosine"},
        {"diffusion_steps": 4000},
        {"model": "SiT-XL/2"},
        {"use_rope": True},
    ],
)
def test_weights_of_another_training_are_refused_by_name(arguments: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"dit\.pt: ") as caught:
        check_training(arguments, Path("dit.pt"))
    assert any(key in str(caught.value) or "SiT" in str(caught.value) for key in arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        vars(argparse.Namespace(model="DiT-XL/2", image_size=256, num_classes=1000, vae="ema")),
        {"prediction": "epsilon", "path_type": None, "predict_xstart": False},
        {"objective": "pred_noise", "noise_schedule": "linear", "diffusion_steps": 1000},
        {"prediction_type": "epsilon", "parameterization": "eps", "beta_schedule": "Linear"},
        json.loads('{"model": {"name": "sitting-dogs"}, "prediction": 3}'),
    ],
)
def test_a_dits_own_arguments_are_taken(arguments: dict[str, object]) -> None:
    check_training(arguments, Path("dit.pt"))


@pytest.mark.parametrize("name", ["SiT-XL-2-256x256.pt", "sit_b_2.ckpt", "my-SiT-S-4.safetensors"])
def test_a_file_named_as_another_networks_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="holds a "):
        check_training({}, Path(name))


@pytest.mark.parametrize(
    "name", ["DiT-XL-2-256x256.pt", "visit-l.pt", "sit-large-dogs.pt", "fit.pt"]
)
def test_a_file_with_another_name_is_taken(name: str) -> None:
    check_training({}, Path(name))
