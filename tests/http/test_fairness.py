"""Fairness on a running service: a small request passes a huge one, and harms it in nothing."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.requests import PICTURE, gated_service, generate, images_of, picture
from tests.support.services import wait_until

SMALL = PICTURE | {"seed": 5, "num_sampling_steps": 4}


def pixels(files: list[bytes]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(file))).astype(int) for file in files]


@pytest.mark.parametrize("steps", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_small_request_passes_sixteen_images_that_are_running(
    pipeline_folder: Path, steps: int
) -> None:
    huge = PICTURE | {"seed": 7, "num_images": 16, "num_sampling_steps": steps, "sampler": "ddpm"}
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_rows=32) as (running, runner),
    ):
        both = pool.submit(generate, running, huge)
        runner.let(3)
        left = 2 * 16 * (steps - 3)
        wait_until(lambda: running.queue_row_steps == left)
        small = pool.submit(generate, running, SMALL)
        wait_until(lambda: running.queue_row_steps == left + 2 * 4)
        runner.let(1 + 4 + 1)  # the tick under way, the small one's, one for its decoding
        assert picture(small.result()).size == (8, 8)
        assert not both.done()
        with_company = [seeds for seeds in runner.seen if 5 in seeds]
        assert [len(seeds) for seeds in with_company] == [16] * 4  # one of the sixteen set aside
        runner.open()
        beside = pixels(images_of(both.result()))
        alone = pixels(images_of(generate(running, huge)))
    assert all(np.abs(mine - its).max() <= 1 for mine, its in zip(alone, beside, strict=True))
    assert len({image.tobytes() for image in alone}) == 16
