"""An image's noise is its own: torch's draws for its seed."""

from __future__ import annotations

import pytest
import torch

from model.sampling.noise import ImageNoise, seed_of_image


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1, 2**31, 2**32 - 1])
def test_noise_is_torchs_own_up_to_32_bits_of_seed(seed: int) -> None:
    shape = (4, 4, 4)
    generator = torch.Generator().manual_seed(seed)
    noise = ImageNoise(seed, shape)
    for _ in range(2):
        assert torch.equal(noise.draw(), torch.randn(shape, generator=generator))


def test_noise_of_large_seeds_is_their_own() -> None:
    shape = (4, 4, 4)
    large = ImageNoise(5 + 2**32, shape).draw()
    assert not torch.equal(large, ImageNoise(5, shape).draw())
    many = torch.stack([ImageNoise(2**40 + i, shape).draw() for i in range(500)])
    assert abs(float(many.mean())) < 0.03
    assert abs(float(many.std()) - 1) < 0.03


def test_seeds_of_a_requests_images_are_distinct_and_valid() -> None:
    seeds = {seed_of_image(seed, i) for seed in range(50) for i in range(16)}
    assert len(seeds) == 50 * 16
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert seed_of_image(7, 0) == 7
    assert all(seed_of_image(2**63 - 1, i) < 2**53 for i in range(1, 100))
