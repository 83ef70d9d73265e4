"""Job: collecting the images and timings of one request."""

from __future__ import annotations

import numpy as np

from tests.support.jobs import job


def picture(level: int) -> np.ndarray:
    return np.full((1, 1, 3), level, dtype=np.uint8)


def test_images_are_delivered_in_order_whichever_finishes_first() -> None:
    both = job("both", [1], [1])
    both.joined = 1.0
    both.deliver(1, picture(1), 2.0)
    assert not both.future.done()
    both.deliver(0, picture(0), 3.0)
    result = both.future.result(timeout=0)
    assert [int(pixels.max()) for pixels in result.pixels] == [0, 1]


def test_denoise_time_excludes_queue_and_decode() -> None:
    one = job("one", [1], admitted=1.0)
    one.joined = 3.0
    one.decode_s = 0.5
    one.deliver(0, picture(0), 8.0)
    timings = one.future.result(timeout=0).timings
    assert (timings.queue, timings.denoise, timings.decode) == (2.0, 4.5, 0.5)
