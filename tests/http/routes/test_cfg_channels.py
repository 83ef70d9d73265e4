"""The field cfg_channels and its setting: guidance on the first channels of the noise."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from model.sampling.parameters import Sampling
from service.images.order import parameters_here
from tests.support.requests import generate, metadata_of, picture
from tests.support.services import LIMITS, Running, load_small_runner, running_service
from tests.support.verify import verdict

BODY: dict[str, object] = {
    "class_label": 1,
    "seed": 1,
    "cfg_scale": 4.0,
    "num_sampling_steps": 3,
    "sampler": "ddim",
}


@pytest.fixture(scope="module")
def official(pipeline_folder: Path) -> Iterator[Running]:
    """A service in reproducible mode that guides three channels unless a request says otherwise."""
    limits = replace(LIMITS, reproducible=True, cfg_channels=3)
    with running_service(
        lambda: load_small_runner(pipeline_folder, max_rows=8, reproducible=True), limits=limits
    ) as running:
        yield running


def test_the_channels_decide_the_picture(exact: Running) -> None:
    answers = [generate(exact, BODY | {"cfg_channels": count}) for count in (1, 2, 3, 4)]
    assert len({picture(answer).tobytes() for answer in answers}) == 4
    stored = [metadata_of(answer).get("cfg_channels") for answer in answers]
    assert stored == [1, 2, 3, None]


def test_all_channels_are_what_a_request_without_the_field_gets(exact: Running) -> None:
    without, with_all = (generate(exact, body) for body in (BODY, BODY | {"cfg_channels": 4}))
    assert with_all.content == without.content
    assert with_all.headers["ETag"] == without.headers["ETag"]
    assert "cfg_channels" not in metadata_of(without)


def test_other_channels_have_another_etag(exact: Running) -> None:
    tags = {generate(exact, BODY | {"cfg_channels": n}).headers["ETag"] for n in (2, 3, 4)}
    assert len(tags) == 3


def test_the_setting_is_the_default_and_a_request_overrides_it(
    official: Running, exact: Running
) -> None:
    three = generate(exact, BODY | {"cfg_channels": 3}).content
    assert generate(official, BODY).content == three
    assert generate(official, BODY | {"cfg_channels": 4}).content == generate(exact, BODY).content


def test_pictures_are_verified_whatever_the_default_is(official: Running, exact: Running) -> None:
    for count in (3, 4):
        file = generate(exact, BODY | {"cfg_channels": count}).content
        for service in (official, exact):
            assert verdict(service, file)["bytes_equal"]


def test_all_channels_have_one_spelling_in_the_metadata(exact: Running) -> None:
    info = exact.engine.model_info
    body = BODY | {"guidance_interval": (0.0, 1.0)}
    four = parameters_here(Sampling(**body, cfg_channels=4), info, reproducible=True)  # type: ignore[arg-type]
    assert four.cfg_channels is None


def test_images_with_different_channels_share_ticks(exact: Running) -> None:
    bodies = [BODY | {"cfg_channels": 1 + seed % 4, "seed": seed} for seed in range(6)]
    alone = [generate(exact, body).content for body in bodies]
    with ThreadPoolExecutor(len(bodies)) as pool:
        together = [answer.content for answer in pool.map(lambda b: generate(exact, b), bodies)]
    assert together == alone


@pytest.mark.parametrize("value", [0, 5, -1, 2.5, "three"])
def test_what_the_model_does_not_have_is_refused(exact: Running, value: object) -> None:
    answer = generate(exact, BODY | {"cfg_channels": value})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "cfg_channels"
    assert error["allowed"].startswith("an integer from 1 to ")


def test_a_default_beyond_the_models_channels_is_all_of_them(pipeline_folder: Path) -> None:
    limits = replace(LIMITS, cfg_channels=9)
    with running_service(lambda: load_small_runner(pipeline_folder), limits=limits) as running:
        assert running.client.get("/models").json()["data"][0]["defaults"]["cfg_channels"] == 4
        assert "cfg_channels" not in metadata_of(generate(running, BODY))


def test_models_has_its_limits_and_default(official: Running, exact: Running) -> None:
    for service, default in ((official, 3), (exact, 4)):
        model = service.client.get("/models").json()["data"][0]
        assert model["limits"]["cfg_channels"] == [1, 4]
        assert model["defaults"]["cfg_channels"] == default


def test_json_answers_tell_it_where_the_metadata_do(exact: Running) -> None:
    json_body = {"Accept": "application/json"}
    for count, told in ((3, 3), (4, None)):
        body = BODY | {"cfg_channels": count}
        answer = exact.client.post("/generate", json=body, headers=json_body).json()
        assert answer["parameters"].get("cfg_channels") == told
        assert ("cfg_channels" in answer["parameters"]) is (told is not None)
