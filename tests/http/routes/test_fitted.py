"""Sampler "fitted": tables that come with the model, for their steps and guidance alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.support.checkpoints import write_pipeline
from tests.support.fitted_solvers import some_solver, write_solvers
from tests.support.requests import generate, metadata_of, picture
from tests.support.services import LIMITS, Running, load_small_runner, running_service

SOLVERS = [some_solver(2), some_solver(3), some_solver(3, low=3.0, high=4.0)]
FITTED = {"class_label": 1, "seed": 1, "sampler": "fitted", "cfg_scale": 1.5}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service in reproducible mode whose model has solvers."""
    folder = write_solvers(write_pipeline(tmp_path_factory.mktemp("fitted")), SOLVERS)
    limits = replace(LIMITS, reproducible=True)
    with running_service(
        lambda: load_small_runner(folder, max_rows=8, reproducible=True), limits=limits
    ) as running:
        yield running


def test_a_picture_names_its_table_and_can_be_verified(fitted: Running) -> None:
    answer = generate(fitted, FITTED | {"num_sampling_steps": 2})
    assert metadata_of(answer)["solver_digest"] == some_solver(2).digest
    verdict = fitted.client.post(
        "/verify", content=answer.content, headers={"Content-Type": "image/png"}
    ).json()
    assert verdict["bytes_equal"], verdict


def test_the_tables_decide_the_picture(fitted: Running) -> None:
    two = picture(generate(fitted, FITTED | {"num_sampling_steps": 2}))
    three = picture(generate(fitted, FITTED | {"num_sampling_steps": 3}))
    ddim = picture(generate(fitted, FITTED | {"num_sampling_steps": 2, "sampler": "ddim"}))
    assert len({image.tobytes() for image in (two, three, ddim)}) == 3


def test_a_request_without_steps_takes_the_most_that_are_fitted(fitted: Running) -> None:
    assert metadata_of(generate(fitted, FITTED))["num_sampling_steps"] == 3


def test_fitted_images_share_ticks_with_others(fitted: Running) -> None:
    bodies = [
        FITTED | {"sampler": name, "num_sampling_steps": 3} for name in ("fitted", "ddpm")
    ] * 3
    alone = [generate(fitted, body).content for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = [answer.content for answer in pool.map(lambda b: generate(fitted, b), bodies)]
    assert together == alone


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ({"num_sampling_steps": 50}, "num_sampling_steps", "2 or 3"),
        ({"num_sampling_steps": 2, "cfg_scale": 2.1}, "cfg_scale", "1.25 .. 2"),
        ({"num_sampling_steps": 3, "cfg_scale": 2.5}, "cfg_scale", "1.25 .. 2 or 3 .. 4"),
        ({"num_sampling_steps": 3, "cfg_scale": 1}, "cfg_scale", "1.25 .. 2 or 3 .. 4"),
    ],
)
def test_what_no_solver_is_fitted_to_is_refused_by_name(
    fitted: Running, change: Mapping[str, object], field: str, allowed: str
) -> None:
    answer = generate(fitted, {**FITTED, **change})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["allowed"]) == (field, allowed)
    assert "with sampler fitted" in error["message"]


def test_a_model_without_solvers_says_so(service: Running) -> None:
    answer = generate(service, FITTED)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["field"], error["allowed"]) == ("sampler", "ddim, ddpm or dpmpp_2m")


def test_models_lists_the_solvers(fitted: Running, service: Running) -> None:
    def limits(running: Running) -> dict[str, object]:
        found = running.client.get("/models").json()["data"][0]["limits"]
        assert isinstance(found, dict)
        return found

    assert limits(fitted)["sampler"] == ["ddim", "ddpm", "dpmpp_2m", "fitted"]
    assert limits(fitted)["fitted"] == [
        {"num_sampling_steps": 2, "cfg_scale": [1.25, 2.0]},
        {"num_sampling_steps": 3, "cfg_scale": [1.25, 2.0]},
        {"num_sampling_steps": 3, "cfg_scale": [3.0, 4.0]},
    ]
    assert "fitted" not in limits(service)["sampler"]  # type: ignore[operator]


def test_other_samplers_metadata_is_without_a_solver(service: Running) -> None:
    answer = generate(service, {"class_label": 1, "seed": 1, "num_sampling_steps": 2})
    assert "solver_digest" not in metadata_of(answer)
