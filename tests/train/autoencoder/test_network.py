"""The small autoencoder: its latents, and the options that choose their shape."""

from __future__ import annotations

import pytest
import torch

from model.train import __main__ as recipe
from model.train.autoencoder.network import (
    LatentShape,
    reconstruct,
    small_autoencoder,
    standardise_latents,
)
from model.train.autoencoder.options import latent_shape
from model.train.data.pixels import to_unit_range
from tests.train.pictures import random_images


@torch.no_grad()
def test_standardised_latents_decode_to_the_same_pictures() -> None:
    torch.manual_seed(1)
    vae = small_autoencoder(32).eval()
    images = random_images(24)
    before = reconstruct(vae, images)
    spread_before = vae.encode(to_unit_range(images)).latent_dist
    standardise_latents(vae, images)
    spread = vae.encode(to_unit_range(images)).latent_dist
    channels = vae.config.latent_channels
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    torch.testing.assert_close(spread.mean.mean((0, 2, 3)), zeros, atol=1e-4, rtol=0)
    torch.testing.assert_close(spread.mean.std((0, 2, 3)), ones, atol=1e-4, rtol=0)
    scale = spread_before.mean.std((0, 2, 3)).view(1, channels, 1, 1)
    torch.testing.assert_close(spread.std * scale, spread_before.std, rtol=1e-3, atol=1e-6)
    after = reconstruct(vae, images)
    assert int((after.int() - before.int()).abs().max()) <= 1


def test_a_picture_becomes_latents_of_the_shape_asked_for() -> None:
    pixels = to_unit_range(random_images(2))
    for shape in (LatentShape(), LatentShape(channels=3, downscale=8)):
        vae = small_autoencoder(32, shape)
        side = 32 // shape.downscale
        assert vae.encode(pixels).latent_dist.mean.shape == (2, shape.channels, side, side)
        assert vae.decode(torch.zeros(1, shape.channels, side, side)).sample.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("--image-size 64", (4, 4)),
        ("--image-size 72", (8, 8)),
        ("--image-size 72 --downscale 4", (4, 4)),
        ("--image-size 64 --downscale 8", (8, 8)),
        ("--image-size 64 --latent-channels 3", (3, 4)),
    ],
)
def test_larger_pictures_get_relatively_smaller_latents(
    options: str, shape: tuple[int, int]
) -> None:
    parser = recipe.options_parser()
    parsed = parser.parse_args(["--data", ".", "--out", ".", *options.split()])
    assert latent_shape(parsed) == LatentShape(*shape)
