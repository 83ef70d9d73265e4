"""OpenAI's client makes pictures and lists models."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from openai import NotFoundError, OpenAI
from openai.types import ImagesResponse
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.support.openai_client import FEW_STEPS, async_openai_client, decoded, openai_client
from tests.support.requests import PICTURE, generate, images_of, picture
from tests.support.services import Running


def files_of(answer: ImagesResponse) -> list[bytes]:
    assert answer.data is not None
    return [decoded(each.b64_json) for each in answer.data]


def extras(answer: ImagesResponse) -> Mapping[str, Any]:
    """Members that OpenAI's own answers do not have."""
    assert answer.model_extra is not None
    return answer.model_extra


def test_a_picture_is_the_one_that_generate_makes(service: Running, client: OpenAI) -> None:
    began = int(time.time())
    answer = client.images.generate(prompt="pear", extra_body=FEW_STEPS)
    assert files_of(answer) == [generate(service, PICTURE).content]
    assert began <= answer.created <= time.time()
    assert (answer.size, answer.output_format, answer.background) == ("8x8", "png", "opaque")


def test_the_answer_has_the_seed_and_what_generate_says(service: Running, client: OpenAI) -> None:
    answer = client.images.generate(prompt="pear", n=2, extra_body=FEW_STEPS)
    ours = generate(service, PICTURE | {"num_images": 2}).json()
    assert answer.data is not None
    seeds = [(each.model_extra or {})["seed"] for each in answer.data]
    assert seeds == [each["seed"] for each in ours["images"]]
    assert extras(answer)["parameters"] == ours["parameters"]
    assert extras(answer)["model"] == ours["model"]
    assert set(extras(answer)["timings"]) == {"queue", "denoise", "decode", "encode"}


def test_several_pictures_are_those_of_generate(service: Running, client: OpenAI) -> None:
    answer = client.images.generate(prompt="pear", n=3, extra_body=FEW_STEPS)
    assert files_of(answer) == images_of(generate(service, PICTURE | {"num_images": 3}))


def test_the_usage_is_counted_in_the_models_tokens(client: OpenAI) -> None:
    usage = client.images.generate(prompt="pear", n=3, extra_body=FEW_STEPS).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1, 12, 13)
    assert usage.input_tokens_details.text_tokens == 1
    assert usage.input_tokens_details.image_tokens == 0


def test_a_seed_that_is_drawn_makes_the_picture_again(client: OpenAI) -> None:
    steps = {"num_inference_steps": 2}
    drawn = client.images.generate(prompt="pear", extra_body=steps)
    seed = extras(drawn)["parameters"]["seed"]
    again = client.images.generate(prompt="pear", extra_body=steps | {"seed": seed})
    assert files_of(again) == files_of(drawn)
    assert files_of(client.images.generate(prompt="pear", extra_body=steps)) != files_of(drawn)


@pytest.mark.parametrize("prompt", ["plum", "PLUM", " damson plum ", "plum, damson plum", "2"])
def test_the_prompt_is_a_name_a_synonym_or_an_id(client: OpenAI, prompt: str) -> None:
    answer = client.images.generate(prompt=prompt, extra_body=FEW_STEPS)
    assert extras(answer)["parameters"]["class_label"] == 2


@pytest.mark.parametrize("name", ["class_label", "class_id"])
@pytest.mark.parametrize("label", [2, "damson plum"])
def test_a_class_label_goes_before_the_prompt(client: OpenAI, name: str, label: int | str) -> None:
    answer = client.images.generate(prompt="anything", extra_body=FEW_STEPS | {name: label})
    assert extras(answer)["parameters"]["class_name"] == "plum"


@pytest.mark.parametrize(
    ("field", "parameter", "value"),
    [
        ("cfg_scale", "cfg_scale", 3.5),
        ("guidance_scale", "cfg_scale", 3.5),
        ("seed", "seed", 2**63 - 1),
        ("num_inference_steps", "num_sampling_steps", 3),
        ("num_sampling_steps", "num_sampling_steps", 3),
        ("sampler", "sampler", "ddpm"),
        ("guidance_interval", "guidance_interval", [0.2, 0.8]),
        ("cfg_channels", "cfg_channels", 3),
    ],
)
def test_the_fields_of_generate_go_through_extra_body(
    client: OpenAI, field: str, parameter: str, value: object
) -> None:
    few = {} if parameter == "num_sampling_steps" else {"num_inference_steps": 2}
    answer = client.images.generate(prompt="pear", extra_body=few | {field: value})
    assert extras(answer)["parameters"][parameter] == value


@pytest.mark.parametrize("size", ["auto", "8x8"])
def test_the_models_own_size_may_be_named(
    client: OpenAI, size: Literal["auto", "1024x1024"]
) -> None:
    answer = client.images.generate(prompt="pear", size=size, extra_body=FEW_STEPS)
    assert Image.open(io.BytesIO(files_of(answer)[0])).size == (8, 8)


def test_fields_that_ask_for_nothing_are_accepted(service: Running, client: OpenAI) -> None:
    answer = client.images.generate(
        prompt="pear",
        model=service.engine.model_info.name,
        n=None,
        size=None,
        quality=None,
        response_format="b64_json",
        background="opaque",
        moderation="low",
        style=None,
        user="someone",
        safety_identifier="0123",
        stream=False,
        partial_images=2,
        extra_body=FEW_STEPS | {"style": "auto"},
    )
    assert files_of(answer) == [generate(service, PICTURE).content]


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_every_format(
    service: Running, client: OpenAI, output_format: Literal["png", "webp", "jpeg"]
) -> None:
    answer = client.images.generate(
        prompt="pear", output_format=output_format, extra_body=FEW_STEPS
    )
    assert answer.output_format == output_format
    ours = generate(service, PICTURE | {"output_format": output_format})
    assert files_of(answer) == [ours.content]


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_compression_is_the_quality_of_a_lossy_format(
    exact: Running, output_format: Literal["webp", "jpeg"]
) -> None:
    def file(compression: int | None) -> bytes:
        with openai_client(exact) as client:
            answer = client.images.generate(
                prompt="pear",
                output_format=output_format,
                output_compression=compression,
                extra_body=FEW_STEPS,
            )
        return files_of(answer)[0]

    by_quality = [file(compression) for compression in (0, 50, 100)]
    assert [len(each) for each in by_quality] == sorted({len(each) for each in by_quality})
    unsaid = generate(exact, PICTURE | {"output_format": output_format}).content
    assert file(None) == file(95) == unsaid
    assert b"output_compression" not in unsaid
    for each in by_quality:
        verdict = exact.client.post("/verify", content=each).json()
        assert (verdict["verified"], verdict["bytes_equal"]) == (True, True), verdict["reason"]


def test_a_quality_that_is_not_the_files_is_found_out(exact: Running) -> None:
    with openai_client(exact) as client:
        answer = client.images.generate(
            prompt="pear", output_format="jpeg", output_compression=20, extra_body=FEW_STEPS
        )
    (file,) = files_of(answer)
    forged = file.replace(b'"output_compression": 20', b'"output_compression": 30')
    assert forged != file
    assert exact.client.post("/verify", content=forged).json()["verified"] is False


def test_a_png_that_states_a_quality_is_not_verified(exact: Running) -> None:
    image = picture(generate(exact, PICTURE))
    stated = json.loads(image.info["dit"]) | {"output_compression": 20}
    verdict = exact.client.post("/verify", content=png_with(image, json.dumps(stated))).json()
    assert verdict["verified"] is False
    assert "output_compression" in verdict["reason"]


def png_with(image: Image.Image, parameters: str) -> bytes:
    texts = PngInfo()
    texts.add_text("dit", parameters)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def test_a_png_takes_the_compression_that_changes_nothing(service: Running, client: OpenAI) -> None:
    answer = client.images.generate(prompt="pear", output_compression=100, extra_body=FEW_STEPS)
    assert files_of(answer) == [generate(service, PICTURE).content]


def test_the_asynchronous_client_gets_the_same(service: Running) -> None:
    async def ask() -> ImagesResponse:
        async with async_openai_client(service) as client:
            return await client.images.generate(prompt="pear", n=2, extra_body=FEW_STEPS)

    assert files_of(asyncio.run(ask())) == images_of(generate(service, PICTURE | {"num_images": 2}))


def test_the_model_is_listed(service: Running, client: OpenAI) -> None:
    (model,) = client.models.list().data
    info = service.engine.model_info
    assert (model.id, model.object, model.owned_by) == (info.name, "model", "dit-service")
    assert time.time() - 3600 < model.created <= time.time()
    ours = service.client.get("/models").json()["data"][0]
    assert (model.model_extra or {})["limits"] == ours["limits"]


def test_the_model_is_found_by_its_id(service: Running, client: OpenAI) -> None:
    (listed,) = client.models.list().data
    assert client.models.retrieve(listed.id) == listed
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve("gpt-image-2")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert repr(listed.id) in caught.value.message


def test_the_answer_has_the_headers_of_generate(client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(prompt="pear", extra_body=FEW_STEPS)
    assert raw.headers["X-Seed"] == "1"
    assert raw.headers["X-Class-Label"] == "1"
    assert raw.headers["Server-Timing"].startswith("queue;dur=")
    assert raw.headers["X-Request-Id"]
