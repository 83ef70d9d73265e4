"""Measures of how alike pictures are, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from model.train.data import similarity
from tests.support.pictures import random_images


def test_psnr_is_that_of_its_definition() -> None:
    images = random_images(3).clamp(max=250)
    assert similarity.psnr(images + 5, images) == pytest.approx(20 * math.log10(255 / 5), abs=1e-3)


def test_ssim_is_that_of_its_definition() -> None:
    images = random_images(4)
    assert similarity.ssim(images, images) == pytest.approx(1.0)
    flat, lighter = torch.full((1, 3, 16, 16), 100), torch.full((1, 3, 16, 16), 120)
    c1 = (0.01 * 255) ** 2  # two flat pictures differ in their means alone
    means = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    both = similarity.ssim(flat.to(torch.uint8), lighter.to(torch.uint8))
    assert both == pytest.approx(means)
    noise = torch.randint(-40, 41, images.shape, generator=torch.Generator().manual_seed(1))
    noisy = (images.int() + noise).clamp(0, 255).to(torch.uint8)
    assert 0 < similarity.ssim(noisy, images) < 0.7


def test_a_mirrored_photograph_is_seen_as_a_copy() -> None:
    photographs = random_images(5)
    pictures = torch.stack([photographs[3].flip(2), (photographs[1].int() + 6).clamp(max=255)])
    away = similarity.nearest(pictures.to(torch.uint8), photographs)
    assert away[0] == pytest.approx(0, abs=1e-4)
    assert 4 < away[1] <= 6


def test_spread_is_the_mean_distance_of_two_pictures() -> None:
    flat = [torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (10, 20, 40)]
    assert similarity.spread(torch.stack(flat)) == pytest.approx((10 + 20 + 30) / 3)
    assert similarity.spread(torch.stack([flat[0]] * 4)) == pytest.approx(0, abs=1e-4)


def test_paired_distances_are_the_diagonal_of_all_distances() -> None:
    pictures, originals = random_images(4), random_images(4).flip(0)
    paired = similarity.paired_distances(pictures, originals)
    torch.testing.assert_close(paired, similarity.distances(pictures, originals).diagonal())
