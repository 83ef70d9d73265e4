"""POST /generate: the answers to valid requests."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from PIL import Image

from model.runner.decoding import Decoding
from model.runner.runner import Flight, ModelRunner
from model.sampling.parameters import DRAWN_SEEDS, MAX_SEED
from service.images.limits import RequestLimits
from tests.support.checkpoints import edit_json, write_pipeline
from tests.support.networks import network_of
from tests.support.requests import PICTURE, generate, images_of, picture
from tests.support.services import (
    LIMITS,
    Running,
    load_small_checkpoint,
    load_small_runner,
    running_service,
)

ALL_STAGES = ["queue", "denoise", "decode", "encode", "total"]


def stages(answer: httpx.Response) -> dict[str, float]:
    """Server-Timing's stages, in milliseconds."""
    parts = re.findall(r"(\w+);dur=([\d.]+)(?:, |$)", answer.headers["Server-Timing"])
    return {name: float(duration) for name, duration in parts}


def test_one_image_comes_as_a_png_with_its_headers(service: Running) -> None:
    answer = generate(service, PICTURE)
    image = picture(answer)
    assert answer.headers["Content-Type"] == "image/png"
    assert (image.format, image.size, image.mode) == ("PNG", (8, 8), "RGB")
    assert answer.headers["X-Seed"] == "1"
    assert answer.headers["X-Class-Label"] == "1"
    assert list(stages(answer)) == ALL_STAGES


def test_the_stages_of_server_timing_fit_into_its_total(service: Running) -> None:
    timing = stages(generate(service, PICTURE | {"num_sampling_steps": 20}))
    assert timing["denoise"] > 2
    assert sum(timing.values()) - timing["total"] <= timing["total"] + 1


def test_the_same_request_gives_the_same_bytes_and_etag(service: Running) -> None:
    first, second = (generate(service, PICTURE) for _ in range(2))
    assert first.content == second.content
    assert first.headers["ETag"] == second.headers["ETag"]
    assert re.fullmatch(r'W/"[0-9a-f]{32}"', first.headers["ETag"])


@pytest.mark.parametrize(
    "change",
    [
        {"class_label": 2},
        {"cfg_scale": 3.0},
        {"num_sampling_steps": 3},
        {"sampler": "dpmpp_2m"},
        {"seed": 2},
        {"guidance_interval": [0.0, 0.5]},
        {"output_format": "webp"},
    ],
)
def test_every_parameter_changes_the_etag_and_the_bytes(
    service: Running, change: dict[str, object]
) -> None:
    plain, changed = generate(service, PICTURE), generate(service, PICTURE | change)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != plain.headers["ETag"]
    assert changed.content != plain.content


def test_the_etag_tells_the_forms_of_an_answer_apart(service: Running) -> None:
    forms = ["image/png", "image/webp", "application/zip", "application/json"]
    tags = {generate(service, PICTURE, accept).headers["ETag"] for accept in forms}
    assert len(tags) == len(forms)


def test_omitted_fields_take_the_servers_defaults(service: Running) -> None:
    spelled_out = {
        "class_label": 1,
        "seed": 1,
        "cfg_scale": 1.5,
        "num_sampling_steps": 5,
        "sampler": "ddim",
        "num_images": 1,
        "guidance_interval": [0, 1],
        "output_format": "png",
        "timeout_s": 300,
        "preview_every": 0,
    }
    short, long = (generate(service, body) for body in ({"class_label": 1, "seed": 1}, spelled_out))
    assert short.content == long.content
    assert short.headers["ETag"] == long.headers["ETag"]


@pytest.mark.parametrize(
    ("name", "alias", "value"),
    [
        ("class_label", "class_id", 3),
        ("cfg_scale", "guidance_scale", 2.5),
        ("num_sampling_steps", "num_inference_steps", 3),
    ],
)
def test_an_alias_means_the_same_field(
    service: Running, name: str, alias: str, value: float
) -> None:
    rest = {other: each for other, each in PICTURE.items() if other != name}
    by_name, by_alias = (generate(service, rest | {each: value}) for each in (name, alias))
    assert by_alias.status_code == 200, by_alias.text
    assert by_alias.content == by_name.content


def test_a_random_seed_is_returned_and_reproduces_the_picture(service: Running) -> None:
    body = {"class_label": 1, "num_sampling_steps": 2}
    first = generate(service, body)
    seed = int(first.headers["X-Seed"])
    assert 0 <= seed < DRAWN_SEEDS
    assert generate(service, body | {"seed": seed}).content == first.content
    assert generate(service, body).headers["X-Seed"] != str(seed)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, MAX_SEED])
def test_every_seed_in_the_range_is_accepted(service: Running, seed: int) -> None:
    answer = generate(service, PICTURE | {"seed": seed})
    assert answer.headers["X-Seed"] == str(seed)
    assert picture(answer).info["dit"]


def test_several_images_come_as_json(service: Running) -> None:
    answer = generate(service, PICTURE | {"num_images": 3, "cfg_scale": 2, "class_label": "pear"})
    assert answer.headers["Content-Type"] == "application/json"
    content = answer.json()
    assert list(content) == ["images", "parameters", "timings", "model"]
    assert [each["index"] for each in content["images"]] == [0, 1, 2]
    assert {each["content_type"] for each in content["images"]} == {"image/png"}
    assert content["parameters"] == {
        "class_label": 1,
        "quality": None,
        "class_name": "pear",
        "cfg_scale": 2.0,
        "num_sampling_steps": 2,
        "sampler": "ddim",
        "guidance_interval": [0.0, 1.0],
        "seed": 1,
        "num_images": 3,
    }
    assert list(content["timings"]) == ["queue", "denoise", "decode", "encode"]
    assert content["model"] == "pipeline0"
    assert len(set(images_of(answer))) == 3
    assert "X-Seed" not in answer.headers


class SlowDecoder(ModelRunner):
    """Takes 0.1 s longer for each decode."""

    def start_decode(self, flights: Sequence[Flight]) -> Decoding:
        time.sleep(0.1)
        return super().start_decode(flights)


def test_images_decoded_together_are_timed_once(pipeline_folder: Path) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    with running_service(
        lambda: SlowDecoder(checkpoint, network_of(checkpoint), max_rows=32)
    ) as running:
        body = PICTURE | {"num_sampling_steps": 1, "num_images": 8}
        timings = generate(running, body).json()["timings"]
        assert timings["decode"] > 0.1
        assert timings["denoise"] > 0


def test_each_of_several_images_can_be_requested_alone_by_its_seed(service: Running) -> None:
    together = generate(service, PICTURE | {"num_images": 3})
    seeds = [each["seed"] for each in together.json()["images"]]
    assert seeds[0] == PICTURE["seed"]
    alone = [generate(service, PICTURE | {"seed": seed}).content for seed in seeds]
    assert alone == images_of(together)


def in_doubles(text: str) -> dict[str, object]:
    """JSON as JavaScript reads it: every number is a double."""
    content = json.loads(text, parse_int=lambda digits: int(float(digits)))
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("own", [{}, {"seed": 2**60}, {"seed": MAX_SEED}])
def test_seeds_that_the_service_chose_survive_clients_whose_numbers_are_doubles(
    service: Running, own: dict[str, object]
) -> None:
    body = {"class_label": 1, "num_sampling_steps": 1, "num_images": 3} | own
    together = generate(service, body)
    seeds = [each["seed"] for each in in_doubles(together.text)["images"]]  # type: ignore[attr-defined]
    for seed, file in list(zip(seeds, images_of(together)))[len(own) :]:
        alone = generate(service, body | {"seed": seed, "num_images": 1})
        assert alone.content == file
    assert together.json()["images"][0]["seed"] == own.get("seed", seeds[0])


def test_one_image_comes_as_json_if_accept_asks_for_it(service: Running) -> None:
    answer = generate(service, PICTURE, "application/json")
    assert images_of(answer) == [generate(service, PICTURE).content]
    assert answer.headers["X-Seed"] == "1"


def test_a_zip_holds_one_file_per_image(service: Running) -> None:
    body = PICTURE | {"num_images": 2, "output_format": "webp", "class_label": "damson plum"}
    answer = generate(service, body, "application/zip")
    assert answer.headers["Content-Type"] == "application/zip"
    files = images_of(generate(service, body))
    seeds = [each["seed"] for each in generate(service, body).json()["images"]]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"plum-{seed}-{i}.webp" for i, seed in enumerate(seeds)]
        assert [archive.read(name) for name in archive.namelist()] == files
        assert all(entry.external_attr >> 16 == 0o100644 for entry in archive.infolist())
    assert generate(service, body, "application/zip").content == answer.content


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_every_output_format(service: Running, output_format: str) -> None:
    answer = generate(service, PICTURE | {"output_format": output_format})
    assert answer.headers["Content-Type"] == f"image/{output_format}"
    assert picture(answer).format == output_format.upper()
    in_json = generate(service, PICTURE | {"output_format": output_format}, "application/json")
    assert images_of(in_json) == [answer.content]
    assert in_json.json()["images"][0]["content_type"] == f"image/{output_format}"


@pytest.mark.parametrize(
    ("sampler", "steps"), [("ddim", 1), ("ddpm", 1), ("dpmpp_2m", 1), ("ddpm", 100)]
)
def test_every_sampler_and_many_steps(service: Running, sampler: str, steps: int) -> None:
    body = {"class_label": 0, "seed": 1, "sampler": sampler, "num_sampling_steps": steps}
    assert picture(generate(service, body | {"cfg_scale": 1.0})).size == (8, 8)


def test_a_guidance_scale_of_1_gives_the_same_picture_in_any_interval(service: Running) -> None:
    unguided = PICTURE | {"cfg_scale": 1}
    everywhere = generate(service, unguided)
    nowhere = generate(service, unguided | {"guidance_interval": [0.3, 0.3]})
    assert picture(everywhere).tobytes() == picture(nowhere).tobytes()


@pytest.mark.parametrize("valid", ["my-id/7", "!", "~", "x" * 128])
def test_a_valid_request_id_is_echoed(service: Running, valid: str) -> None:
    given = service.client.get("/livez", headers={"X-Request-Id": valid})
    assert given.headers["X-Request-Id"] == valid


def test_a_missing_request_id_is_generated(service: Running) -> None:
    made = {service.client.get("/livez").headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)


@pytest.mark.parametrize("invalid", ["", "x" * 129, "with space", "caf\xe9"])
def test_an_invalid_request_id_is_replaced(service: Running, invalid: str) -> None:
    headers = {b"X-Request-Id": invalid.encode("latin-1")}
    answer = service.client.get("/livez", headers=headers)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/generate", 422),
        ("GET", "/generate", 405),
        ("GET", "/nothing", 404),
        ("GET", f"/classes?q={'x' * 300}", 422),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
    ],
)
def test_every_answer_has_a_request_id_and_timing(
    service: Running, method: str, path: str, status: int
) -> None:
    answer = service.client.request(method, path, headers={"X-Request-Id": "abc"})
    assert answer.status_code == status
    assert answer.headers["X-Request-Id"] == "abc"
    assert "total" in stages(answer)
    if status >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["request_id"] == "abc"


def test_a_connection_serves_several_requests(service: Running) -> None:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        sizes = [Image.open(io.BytesIO(client.post("/generate", json=PICTURE).content)).size]
        assert client.post("/generate", json={}).status_code == 422
        sizes += [Image.open(io.BytesIO(client.post("/generate", json=PICTURE).content)).size]
        assert sizes == [(8, 8)] * 2


def test_guidance_defaults_to_the_servers_then_the_models_then_the_official(
    tmp_path: Path,
) -> None:
    folder = write_pipeline(tmp_path)

    def default(limits: RequestLimits) -> float:
        with running_service(lambda: load_small_runner(folder), limits=limits) as running:
            named = running.client.get("/models").json()["data"][0]["defaults"]["cfg_scale"]
            used = generate(running, PICTURE, "application/json").json()["parameters"]
            assert used["cfg_scale"] == named
            return float(named)

    assert default(replace(LIMITS, cfg_scale=None)) == 4.0
    edit_json(folder / "model_index.json", default_cfg_scale=2.5)
    assert default(replace(LIMITS, cfg_scale=None)) == 2.5
    assert default(replace(LIMITS, cfg_scale=1.5)) == 1.5
