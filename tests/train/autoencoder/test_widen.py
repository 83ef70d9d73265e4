"""Widening an autoencoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.train.autoencoder.network import small_autoencoder
from model.train.autoencoder.widen import widen
from model.train.data.pixels import to_unit_range
from tests.train.pictures import random_images
from tests.train.small_networks import saved_autoencoder


def test_a_widened_autoencoder_is_the_same_function_and_its_copies_diverge(tmp_path: Path) -> None:
    vae = saved_autoencoder(tmp_path / "vae")
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn(weight.shape)
    wide = widen(vae, 3, seed=5)
    assert wide.config.block_out_channels == [48, 96, 192]
    assert (wide.config.scaling_factor, wide.config.shift_factor) == (0.5, 0.1)
    pixels = to_unit_range(random_images(2))
    moments = vae.encode(pixels).latent_dist.parameters
    torch.testing.assert_close(
        wide.encode(pixels).latent_dist.parameters, moments, atol=1e-4, rtol=1e-4
    )
    latents = moments.chunk(2, dim=1)[0]
    decoded = wide.decode(latents).sample
    torch.testing.assert_close(decoded, vae.decode(latents).sample, atol=1e-4, rtol=1e-4)
    torch.autograd.backward(decoded.square().mean())
    gradient = wide.decoder.conv_in.weight.grad
    assert gradient is not None
    copies = gradient.unflatten(0, (-1, 3))
    assert bool(((copies[:, 0] - copies[:, 1]).abs().amax((1, 2, 3)) > 0).all())


def test_an_autoencoder_with_attention_is_not_widened() -> None:
    vae = small_autoencoder(32)
    vae.register_to_config(mid_block_add_attention=True)
    with pytest.raises(ValueError, match="has attention"):
        widen(vae, 2)
