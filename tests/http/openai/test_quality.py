"""The qualities of OpenAI's API are the presets of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import OpenAI, UnprocessableEntityError
from openai.types import ImageGenCompletedEvent

from tests.support.openai_client import openai_client
from tests.support.requests import generate
from tests.support.services import LIMITS, Running, load_small_runner, running_service

UNSET = replace(LIMITS, num_sampling_steps=None, sampler=None)
Asked = Literal["auto", "low", "medium", "high", "standard", "hd"]


@pytest.fixture(scope="module")
def presets(pipeline_folder: Path) -> Iterator[Running]:
    """A service whose requests get a quality if they name no steps."""
    with running_service(lambda: load_small_runner(pipeline_folder), limits=UNSET) as running:
        yield running


@pytest.fixture
def client(presets: Running) -> Iterator[OpenAI]:
    with openai_client(presets) as each:
        yield each


@pytest.mark.parametrize(
    ("asked", "preset", "told"),
    [
        ("low", "fast", "low"),
        ("medium", "balanced", "medium"),
        ("high", "best", "high"),
        ("hd", "best", "high"),
        ("auto", None, "medium"),
        ("standard", None, "medium"),
        (None, None, "medium"),
    ],
)
def test_a_quality_is_a_preset(
    presets: Running, client: OpenAI, asked: Asked | None, preset: str | None, told: str
) -> None:
    answer = client.images.generate(prompt="pear", quality=asked, extra_body={"seed": 1})
    body = {"class_label": "pear", "seed": 1, "quality": preset}
    ours = generate(presets, body, "application/json").json()["parameters"]
    assert (answer.model_extra or {})["parameters"] == ours
    assert answer.quality == told
    (event,) = client.images.generate(
        prompt="pear", quality=asked, stream=True, extra_body={"seed": 1}
    )
    assert isinstance(event, ImageGenCompletedEvent)
    assert event.quality == told


def test_qualities_differ(client: OpenAI) -> None:
    def steps(quality: Asked) -> int:
        answer = client.images.generate(prompt="pear", quality=quality)
        return int((answer.model_extra or {})["parameters"]["num_sampling_steps"])

    assert steps("low") < steps("medium") < steps("high")


@pytest.mark.parametrize("extra", [{"num_inference_steps": 2}, {"sampler": "ddim"}])
def test_a_quality_beside_steps_or_a_sampler_is_refused(
    client: OpenAI, extra: dict[str, Any]
) -> None:
    with pytest.raises(UnprocessableEntityError) as caught:
        client.images.generate(prompt="pear", quality="low", extra_body=extra)
    assert caught.value.param == "quality"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["errors"][0]["value"] == "low"  # as it was sent
    answer = client.images.generate(prompt="pear", quality="auto", extra_body=extra)
    assert answer.quality is None
