"""Quality: a request that names neither steps nor sampler takes the model's preset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import httpx
import pytest

from tests.support.checkpoints import edit_json, write_pipeline
from tests.support.fitted_solvers import some_solver, write_solvers
from tests.support.requests import generate, metadata_of
from tests.support.services import LIMITS, Running, load_small_runner, running_service

BODY = {"class_label": 1, "seed": 1, "cfg_scale": 1.5}
BALANCED = {"sampler": "fitted", "num_sampling_steps": 3, "guidance_interval": [0.3, 1.0]}
"""The last of the three steps is at timestep 200, so without guidance."""
OF_ANY_MODEL = {
    "sampler": "dpmpp_2m",
    "num_sampling_steps": 20,
    "guidance_interval": [0.0, 1.0],
}
UNSET = replace(LIMITS, num_sampling_steps=None, sampler=None, reproducible=True)


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service in reproducible mode whose model has a preset for guidance from 1.25 to 2."""
    folder = write_solvers(write_pipeline(tmp_path_factory.mktemp("presets")), [some_solver(3)])
    own = {"balanced": [BALANCED | {"cfg_scale": [1.25, 2.0]}]}
    edit_json(folder / "model_index.json", presets=own)
    with running_service(
        lambda: load_small_runner(folder, max_rows=8, reproducible=True), limits=UNSET
    ) as running:
        yield running


def parameters_of(answer: httpx.Response) -> dict[str, object]:
    """The metadata of a picture, or the parameters of an answer in JSON."""
    if answer.headers["content-type"] == "application/json":
        found = answer.json()["parameters"]
        assert isinstance(found, dict)
        return found
    return metadata_of(answer)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, BALANCED),
        ({"quality": "balanced"}, BALANCED),
        ({"cfg_scale": 3.0}, OF_ANY_MODEL),
        ({"quality": "fast"}, BALANCED | {"guidance_interval": [0.0, 1.0]}),
        ({"quality": "best"}, OF_ANY_MODEL | {"num_sampling_steps": 50}),
        ({"guidance_interval": [0.0, 0.5]}, BALANCED | {"guidance_interval": [0.0, 0.5]}),
        ({"num_sampling_steps": 4}, OF_ANY_MODEL | {"sampler": "ddim", "num_sampling_steps": 4}),
        ({"sampler": "dpmpp_2m"}, OF_ANY_MODEL | {"num_sampling_steps": 50}),
        ({"sampler": "fitted"}, BALANCED | {"guidance_interval": [0.0, 1.0]}),
    ],
)
def test_what_a_request_resolves_to_is_in_its_picture(
    presets: Running, change: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    found = parameters_of(generate(presets, {**BODY, **change}))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "quality"),
    [
        ({}, "balanced"),
        ({"quality": "fast"}, "fast"),
        ({"sampler": "ddim", "num_sampling_steps": 2}, None),
    ],
)
def test_the_answer_names_the_quality(
    presets: Running, change: Mapping[str, object], quality: str | None
) -> None:
    answer = generate(presets, {**BODY, **change}, "application/json")
    assert parameters_of(answer)["quality"] == quality


def test_the_bytes_do_not_depend_on_how_the_values_were_named(presets: Running) -> None:
    by_quality = generate(presets, BODY | {"quality": "balanced"})
    by_values = generate(presets, BODY | BALANCED)
    assert by_quality.content == by_values.content
    assert by_quality.headers["etag"] == by_values.headers["etag"]


@pytest.mark.parametrize("named", [{"sampler": "ddim"}, {"num_sampling_steps": 3}])
def test_a_quality_next_to_steps_or_a_sampler_is_refused(
    presets: Running, named: Mapping[str, object]
) -> None:
    answer = generate(presets, {**BODY, "quality": "fast", **named})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "quality"
    assert error["allowed"] == "either a quality, or num_sampling_steps and sampler"


def test_an_unknown_quality_is_refused_with_those_that_exist(presets: Running) -> None:
    (error,) = generate(presets, BODY | {"quality": "good"}).json()["errors"]
    assert (error["field"], error["allowed"]) == ("quality", "fast, balanced or best")


def test_models_lists_the_presets_and_the_default(presets: Running) -> None:
    model = presets.client.get("/models").json()["data"][0]
    assert list(model["presets"]) == ["fast", "balanced", "best"]
    assert model["presets"]["balanced"] == [
        BALANCED | {"cfg_scale": [1.25, 2.0]},
        OF_ANY_MODEL | {"cfg_scale": [1.0, 20.0]},
    ]
    defaults = model["defaults"]
    assert {name: defaults[name] for name in (*BALANCED, "quality")} == BALANCED | {
        "quality": "balanced"
    }


def test_steps_outside_the_guidance_interval_save_a_row_each(presets: Running) -> None:
    def counted() -> tuple[float, float]:
        useful = presets.metric("dit_denoise_steps_total", kind="useful")
        return useful, presets.metric("dit_guidance_rows_saved_total")

    useful, saved = counted()
    generate(presets, BODY | {"quality": "balanced"})
    generate(presets, BODY | {"cfg_scale": 1.0, "num_sampling_steps": 4})
    assert counted() == (useful + 5 + 4, saved + 1)


def test_a_server_with_default_steps_has_no_default_quality(service: Running) -> None:
    found = parameters_of(generate(service, BODY, "application/json"))
    assert (found["sampler"], found["num_sampling_steps"], found["quality"]) == ("ddim", 5, None)
    defaults = service.client.get("/models").json()["data"][0]["defaults"]
    assert (defaults["quality"], defaults["num_sampling_steps"]) == (None, 5)
    found = parameters_of(generate(service, BODY | {"quality": "fast"}, "application/json"))
    assert (found["sampler"], found["num_sampling_steps"]) == ("dpmpp_2m", 10)
