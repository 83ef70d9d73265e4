"""Concurrency: 64 different requests at once give the same images as one by one."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from model.runner.runner import ModelRunner
from tests.support.services import (
    LIMITS,
    Running,
    load_bundled_runner,
    load_small_runner,
    running_service,
)

CLIENTS = 64
LONG_S = 3600.0
"""More than all requests take on a busy machine."""


def mixed_requests(num_classes: int, most_steps: int) -> list[dict[str, object]]:
    """Requests of mixed classes, steps, samplers, guidance and guidance intervals."""
    draw = random.Random(0)
    return [
        {
            "class_label": draw.randrange(num_classes),
            "cfg_scale": draw.choice([1.0, 1.5, 2.5, 4.0, 7.5]),
            "num_sampling_steps": draw.randint(5, most_steps),
            "sampler": draw.choice(["ddim", "ddpm", "dpmpp_2m"]),
            "seed": draw.randrange(2**63),
            "guidance_interval": draw.choice([[0.0, 1.0], [0.1, 0.8]]),
        }
        for _ in range(CLIENTS)
    ]


def pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def generate(running: Running, request: dict[str, object]) -> np.ndarray:
    url = f"{running.url}/generate"
    return pixels(httpx.post(url, json=request, timeout=LONG_S, trust_env=False))


def check_concurrency_changes_nothing(running: Running, requests: list[dict[str, object]]) -> None:
    alone = [generate(running, request) for request in requests]
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(lambda request: generate(running, request), requests))
    for mine, shared in zip(alone, together):
        assert np.abs(mine - shared).max() <= 1
    most_images = running.metric("dit_tick_images_bucket", le="8.0")
    assert running.metric("dit_tick_images_count") > most_images, "no tick held over 8 images"
    assert len({image.tobytes() for image in together}) == CLIENTS


def test_64_concurrent_requests_give_the_images_they_give_alone(pipeline_folder: Path) -> None:
    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder, max_rows=64)

    with running_service(load) as running:
        check_concurrency_changes_nothing(running, mixed_requests(num_classes=5, most_steps=60))


@pytest.mark.slow
def test_64_concurrent_requests_of_up_to_250_steps_on_the_bundled_model() -> None:
    limits = replace(LIMITS, timeout_s=LONG_S)
    with running_service(lambda: load_bundled_runner(max_rows=64), limits=limits) as running:
        classes = len(running.engine.model_info.classes)
        check_concurrency_changes_nothing(running, mixed_requests(classes, most_steps=250))
