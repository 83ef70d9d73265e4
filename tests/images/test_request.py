"""GenerateRequest: the ranges of its fields."""

from __future__ import annotations

import json

import pytest

from service.images.request import parse_generate_request


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_label", "x" * 200),
        ("cfg_scale", 1.0),
        ("cfg_scale", 20.0),
        ("num_sampling_steps", 1),
        ("num_sampling_steps", 1000),
        ("seed", 0),
        ("seed", 2**63 - 1),
        ("num_images", 1),
        ("guidance_interval", (0.0, 0.0)),
        ("guidance_interval", (1.0, 1.0)),
        ("timeout_s", 1e-9),
        ("preview_every", 0),
        ("preview_every", 1000),
    ],
)
def test_the_bounds_of_a_range_are_accepted(name: str, value: object) -> None:
    body = json.dumps({"class_label": 0} | {name: value}).encode()
    assert getattr(parse_generate_request(body), name) == value
