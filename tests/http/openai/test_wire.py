"""Bodies as other callers of OpenAI's API send them, without its client."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest

from tests.support.requests import PICTURE, generate
from tests.support.services import Running

ROUTE = "/v1/images/generations"
STEPS = {"seed": 1, "num_inference_steps": 2}


@pytest.mark.parametrize(
    "body",
    [
        # LiteLLM's image_generation, with all that its callers may set
        {"model": "pipeline0", "prompt": "pear", "n": 1, "size": "8x8", "user": "u-1"},
        # Open WebUI
        {
            "model": "pipeline0",
            "prompt": "pear",
            "n": 1,
            "size": "8x8",
            "response_format": "b64_json",
        },
        # LangChain's wrapper of DALL-E
        {"prompt": "pear", "model": "pipeline0", "n": 1, "size": "auto", "quality": "standard"},
        # a client that writes every field
        {
            "prompt": "pear",
            "background": None,
            "model": None,
            "moderation": "auto",
            "n": None,
            "output_compression": None,
            "output_format": None,
            "partial_images": None,
            "quality": None,
            "response_format": None,
            "safety_identifier": None,
            "size": None,
            "stream": False,
            "style": None,
            "svg": None,
            "user": "",
        },
        {"prompt": "pear", "n": 1.0, "partial_images": 0.0},
        {"class_label": "pear"},
        {"class_id": 1},
    ],
)
def test_what_callers_send_gives_a_picture(service: Running, body: Mapping[str, object]) -> None:
    headers = {"Authorization": "Bearer none", "OpenAI-Organization": "o", "Accept": "*/*"}
    answer = service.client.post(ROUTE, json={**body, **STEPS}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    (image,) = answer.json()["data"]
    assert base64.b64decode(image["b64_json"]) == generate(service, PICTURE).content


def test_the_answer_has_no_members_that_clients_would_misread(service: Running) -> None:
    answer = service.client.post(ROUTE, json={"prompt": "pear", **STEPS}).json()
    assert {"created", "data", "usage", "background", "output_format", "quality", "size"} < set(
        answer
    )
    assert "url" not in answer["data"][0]


@pytest.mark.parametrize("path", ["/v1/images/generations/", "/images/generations", "/v1/image"])
def test_other_paths_are_not_found(service: Running, path: str) -> None:
    assert service.client.post(path, json={"prompt": "pear"}).status_code == 404
