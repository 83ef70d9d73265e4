"""Pictures for an evaluation are those that a service would give."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from model.sampling.trajectory import plan_trajectory
from model.train.evaluation.generate import evaluation_runner, generate
from model.train.evaluation.setting import EvaluationSetting
from model.weights.checkpoint import Checkpoint, load_checkpoint

SEED = 7


def small_checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), device=torch.device("cpu"), dtype=torch.float32)


def sampled_alone(
    runner: ModelRunner, setting: EvaluationSetting, class_label: int, seed: int
) -> np.ndarray:
    """One image (S, S, 3) on a runner that has nothing else to do."""
    sampling = setting.sampling(class_label, seed)
    flight = runner.join(plan_trajectory(runner.checkpoint.schedule, sampling))
    while not flight.done:
        runner.tick([flight])
    (pixels,) = runner.decode([flight])
    runner.leave(flight)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("spelled", ["ddim:4:1", "ddpm:5:3", "dpmpp_2m:6:2:0.3-0.8"])
def test_pictures_are_those_of_a_runner_asked_for_one_of_them_alone(
    pipeline_folder: Path, spelled: str
) -> None:
    setting = EvaluationSetting.parse(spelled)
    runner = evaluation_runner(small_checkpoint(pipeline_folder))
    labels = torch.arange(5).repeat(9)
    assert len(labels) > runner.max_rows, "the images do not all fit in one tick"
    pictures = generate(runner, labels, setting, SEED)
    alone = build_runner(small_checkpoint(pipeline_folder), max_rows=2)
    assert pictures.shape == (45, 3, 8, 8)
    assert len(torch.unique(pictures, dim=0)) == 45
    for i in (0, 13, 31, 44):
        expected = sampled_alone(alone, setting, int(labels[i]), SEED + i)
        assert np.array_equal(pictures[i].permute(1, 2, 0).numpy(), expected), i


def test_the_searched_solver_is_evaluated_where_it_is_offered(pipeline_folder: Path) -> None:
    setting, labels = EvaluationSetting.parse("ns:5:1.5"), torch.arange(3)
    checkpoint = small_checkpoint(pipeline_folder)
    with pytest.raises(ValueError, match=r"ns 5 cfg 1\.5: ns is for DiT-XL/2, this is DiT 2x128/2"):
        generate(evaluation_runner(checkpoint), labels, setting)
    runner = evaluation_runner(replace(checkpoint, architecture="DiT-XL/2"))
    assert len(torch.unique(generate(runner, labels, setting), dim=0)) == 3


def test_a_runner_is_left_as_it_was_found(pipeline_folder: Path) -> None:
    setting = EvaluationSetting("ddim", 2, 2.0)
    runner = evaluation_runner(small_checkpoint(pipeline_folder))
    labels = torch.arange(5).repeat(30)
    assert len(labels) > runner.slots, "a slot that is not given back is missed"
    first = generate(runner, labels, setting)
    assert torch.equal(generate(runner, labels, setting), first)


def test_a_picture_that_is_not_finite_is_named(pipeline_folder: Path) -> None:
    checkpoint = small_checkpoint(pipeline_folder)
    checkpoint.dit.final_layer.linear.bias.fill_(math.nan)
    setting = EvaluationSetting("ddim", 2, 1.0)
    with pytest.raises(ValueError, match=r"ddim 2 cfg 1: the picture with seed 0 is not finite"):
        generate(evaluation_runner(checkpoint), torch.arange(2), setting)
