"""Measures of how alike pictures are, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.train.data import similarity
from tests.train.pictures import random_images


def test_psnr_is_that_of_its_definition() -> None:
    images = random_images(3).clamp(max=250)
    assert similarity.psnr(images + 5, images) == pytest.approx(20 * math.log10(255 / 5), abs=1e-3)
    flat = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    errors = torch.tensor([5, 50], dtype=torch.uint8).view(2, 1, 1, 1)
    mean = 10 * math.log10(255 / 5) + 10 * math.log10(255 / 50)  # of the two pictures
    assert similarity.psnr(flat + errors, flat) == pytest.approx(mean, abs=1e-3)
    assert similarity.psnr(flat, flat) == pytest.approx(20 * math.log10(255 / 0.01), abs=1e-3)


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


def test_ssim_weighs_a_window_as_its_authors_do() -> None:
    places = torch.arange(11) - 5
    weights = torch.exp(-(places[:, None] ** 2 + places**2).double() / (2 * 1.5**2))
    weights /= weights.sum()
    pictures = random_images(2, size=11)  # one window each
    x, y = pictures[0].double(), pictures[1].double()

    def mean(values: Tensor) -> Tensor:
        return (values * weights).sum((1, 2))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
    likeness = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2)
    by_channel = likeness / ((mean(x) ** 2 + mean(y) ** 2 + c1) * (variances + c2))
    assert similarity.ssim(pictures[:1], pictures[1:]) == pytest.approx(float(by_channel.mean()))


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
