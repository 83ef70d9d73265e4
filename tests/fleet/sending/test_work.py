"""The work of a request as the front estimates it, beside what a replica counts."""

from __future__ import annotations

import pytest
import torch

from model.sampling.trajectory import plan_trajectory
from model.weights.checkpoint import load_checkpoint
from service.engine.model_info import ModelInfo
from service.fleet.sending.work import ROWS_UNKNOWN, images_of, row_steps_of
from service.http.routes.catalogue import describe
from service.images.limits import RequestLimits
from service.images.order import take_order
from service.images.request import GenerateRequest

LIMITS = RequestLimits(
    max_images=16,
    timeout_s=300.0,
    cfg_scale=None,
    quality="balanced",
    num_sampling_steps=None,
    sampler=None,
    reproducible=False,
)
NAMED = RequestLimits(
    max_images=16,
    timeout_s=300.0,
    cfg_scale=2.0,
    quality="balanced",
    num_sampling_steps=30,
    sampler="ddim",
    reproducible=False,
)


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    return ModelInfo.of(load_checkpoint("bundled", device=torch.device("cpu"), dtype=torch.float32))


@pytest.mark.parametrize("limits", [LIMITS, NAMED], ids=["presets", "named"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"quality": "fast"},
        {"quality": "best", "num_images": 3},
        {"num_sampling_steps": 17},
        {"num_inference_steps": 17, "guidance_scale": 1.0},
        {"sampler": "dpmpp_2m"},
        {"sampler": "fitted"},
        {"sampler": "ddpm", "num_sampling_steps": 250, "cfg_scale": 4.0},
        {"cfg_scale": 1.0, "num_images": 2},
        {"num_sampling_steps": 100, "guidance_interval": [0.2, 0.7]},
        {"quality": "fast", "cfg_scale": 8.0},
    ],
    ids=str,
)
def test_the_estimate_is_near_what_a_replica_counts(
    info: ModelInfo, limits: RequestLimits, body: dict[str, object]
) -> None:
    members = {key: tuple(v) if isinstance(v, list) else v for key, v in body.items()}
    order = take_order(GenerateRequest(class_label=0, **members), info, limits)  # type: ignore[arg-type]
    exact = sum(
        plan_trajectory(info.schedule, each, info.fitted).row_steps for each in order.images
    )
    estimate = row_steps_of({"class_label": 0, **body}, describe(info, limits))
    partial = order.images[0].guidance_interval != (0.0, 1.0)
    assert estimate == pytest.approx(exact, rel=0.25 if partial else 0.0)


def test_openais_words_mean_the_same(info: ModelInfo) -> None:
    model = describe(info, LIMITS)
    assert row_steps_of({"prompt": "0", "n": 4, "quality": "high"}, model) == row_steps_of(
        {"class_label": 0, "num_images": 4, "quality": "best"}, model
    )


@pytest.mark.parametrize(
    ("body", "images"), [({}, 1), ({"num_images": 3}, 3), ({"n": 16}, 16), ({"num_images": "x"}, 1)]
)
def test_images_are_counted_by_either_name(body: dict[str, object], images: int) -> None:
    assert images_of(body) == images


@pytest.mark.parametrize("value", [-1, 0, "x", None, True, [], 1e300, float("nan")])
def test_nonsense_counts_as_the_default(info: ModelInfo, value: object) -> None:
    model = describe(info, LIMITS)
    names = ("num_images", "num_sampling_steps", "cfg_scale", "quality", "guidance_interval")
    body = dict.fromkeys(names, value)
    assert 1 <= row_steps_of(body, model) <= 2000


def test_an_unknown_model_has_usual_steps() -> None:
    assert row_steps_of({"num_images": 2}, None) == 2 * ROWS_UNKNOWN
    assert row_steps_of({"num_sampling_steps": 10}, None) == 20
