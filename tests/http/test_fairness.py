"""Fairness on a running service: a small request overtakes a huge one without altering it."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.requests import PICTURE, gated_service, generate, images_of, picture
from tests.support.services import wait_until

LONG_S = 280.0
"""Less than the deadline of the service under test."""

SMALL = PICTURE | {"seed": 5, "num_sampling_steps": 4}


def pixels(files: list[bytes]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(file))).astype(int) for file in files]


@pytest.mark.parametrize("steps", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_small_request_overtakes_sixteen_running_images(
    pipeline_folder: Path, steps: int
) -> None:
    huge = PICTURE | {"seed": 7, "num_images": 16, "num_sampling_steps": steps, "sampler": "ddpm"}
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_rows=32) as (running, runner),
    ):
        running.client.timeout = httpx.Timeout(LONG_S)
        large = pool.submit(generate, running, huge)
        runner.let(3)
        left = 2 * 16 * (steps - 3)
        wait_until(lambda: running.queue_row_steps == left)
        small = pool.submit(generate, running, SMALL)
        wait_until(lambda: running.queue_row_steps == left + 2 * 4)
        runner.let(1 + 4 + 1)  # the tick under way, the small request's four, one during its decode
        assert picture(small.result()).size == (8, 8)
        assert not large.done()
        with_company = [seeds for seeds in runner.seen if 5 in seeds]
        # Its ticks hold the small image and fifteen of the sixteen; one is set aside.
        assert [len(seeds) for seeds in with_company] == [16] * 4
        runner.open()
        shared = pixels(images_of(large.result()))
        alone = pixels(images_of(generate(running, huge)))
    assert all(np.abs(mine - theirs).max() <= 1 for mine, theirs in zip(alone, shared, strict=True))
    assert len({image.tobytes() for image in alone}) == 16
