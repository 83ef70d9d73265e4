"""Sampler "ns" over HTTP: tables for one architecture, for 5 to 10 steps and little guidance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from tests.support.requests import generate, picture
from tests.support.services import LIMITS, Running, load_small_checkpoint, running_service
from tests.support.verify import verdict

SEARCHED = {"class_label": 1, "seed": 1, "sampler": "ns", "cfg_scale": 1.5, "num_sampling_steps": 5}


@pytest.fixture(scope="module")
def searched(pipeline_folder: Path) -> Iterator[Running]:
    """A service in reproducible mode whose small model is taken for DiT-XL/2."""

    def load() -> ModelRunner:
        checkpoint = replace(load_small_checkpoint(pipeline_folder), architecture="DiT-XL/2")
        return build_runner(checkpoint, max_rows=8, reproducible=True)

    limits = replace(LIMITS, reproducible=True, num_sampling_steps=None)
    with running_service(load, limits=limits) as running:
        yield running


def test_a_picture_can_be_verified(searched: Running) -> None:
    answer = generate(searched, SEARCHED)
    assert b'"sampler": "ns"' in answer.content
    assert verdict(searched, answer.content)["bytes_equal"]


def test_each_number_of_steps_is_another_picture(searched: Running) -> None:
    bodies = [SEARCHED | {"num_sampling_steps": steps} for steps in range(5, 11)]
    assert len({picture(generate(searched, body)).tobytes() for body in bodies}) == 6


def test_a_request_without_steps_takes_ten(searched: Running) -> None:
    body = {key: value for key, value in SEARCHED.items() if key != "num_sampling_steps"}
    ten = generate(searched, SEARCHED | {"num_sampling_steps": 10})
    assert generate(searched, body).content == ten.content


def test_its_images_share_ticks_with_others(searched: Running) -> None:
    bodies = [
        SEARCHED | {"sampler": name, "seed": seed}
        for seed, name in enumerate(["ns", "ddpm", "dpmpp_2m", "ns", "ddim", "ns"])
    ]
    alone = [generate(searched, body).content for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = [answer.content for answer in pool.map(lambda b: generate(searched, b), bodies)]
    assert together == alone


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"num_sampling_steps": 4}, {"num_sampling_steps": "an integer from 5 to 10"}),
        ({"num_sampling_steps": 11}, {"num_sampling_steps": "an integer from 5 to 10"}),
        ({"cfg_scale": 2.5}, {"cfg_scale": "1 .. 2"}),
        (
            {"num_sampling_steps": 50, "cfg_scale": 4},
            {"num_sampling_steps": "an integer from 5 to 10", "cfg_scale": "1 .. 2"},
        ),
    ],
)
def test_what_has_no_table_is_refused_by_name(
    searched: Running, change: Mapping[str, object], allowed: Mapping[str, str]
) -> None:
    answer = generate(searched, {**SEARCHED, **change})
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert {error["field"]: error["allowed"] for error in errors} == allowed
    assert all("with sampler ns" in error["message"] for error in errors)
    if "cfg_scale" in allowed:
        assert errors[-1]["message"].endswith("dpmpp_2m takes any")


@pytest.mark.parametrize("cfg_scale", [1, 2])
def test_the_ends_of_its_guidance_are_allowed(searched: Running, cfg_scale: float) -> None:
    assert generate(searched, SEARCHED | {"cfg_scale": cfg_scale}).status_code == 200


def test_another_model_says_what_it_is_for(service: Running) -> None:
    answer = generate(service, SEARCHED)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["allowed"]) == ("sampler", "ddim, ddpm or dpmpp_2m")
    assert "ns is for DiT-XL/2 with the official noise schedule" in error["message"]


def test_models_lists_its_tables_where_it_is_offered(searched: Running, service: Running) -> None:
    limits, others = (
        running.client.get("/models").json()["data"][0]["limits"] for running in (searched, service)
    )
    assert limits["sampler"] == ["ddim", "ddpm", "dpmpp_2m", "ns"]
    assert limits["ns"] == [
        {"num_sampling_steps": steps, "cfg_scale": [1.0, 2.0]} for steps in range(5, 11)
    ]
    assert others["sampler"] == ["ddim", "ddpm", "dpmpp_2m"]
    assert others["ns"] == []
