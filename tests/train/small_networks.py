"""Small networks with random weights for the tests of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn

from model.networks.dit import DiT
from model.train.autoencoder.network import LatentShape, small_autoencoder

SMALL_DIT: dict[str, Any] = {
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 2,
    "patch_size": 2,
    "in_channels": LatentShape().channels,
    "input_size": 4,
    "downscale_freq_shift": 1,
}


def random_dit(**facts: int) -> DiT:
    dit = DiT(**SMALL_DIT | facts)
    for parameter in dit.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.05)
    return dit.eval().requires_grad_(False)


def saved_autoencoder(folder: Path) -> AutoencoderKL:
    torch.manual_seed(1)
    vae = small_autoencoder(32).eval()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.1)
    vae.save_pretrained(folder)
    return vae


@torch.no_grad()
def check_networks_agree(dit: DiT, transformer: nn.Module) -> None:
    """Outputs agree to 1e-4, at low timesteps and for the null class too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in dit.parameters():
        assert not parameter.requires_grad
    x = torch.randn(4, dit.in_channels, dit.input_size, dit.input_size, generator=generator)
    t, y = torch.tensor([0, 3, 500, 999]), torch.tensor([0, 1, 2, 3])
    ours, theirs = dit(x, t, y), transformer(x, timestep=t, class_labels=y).sample
    assert float(ours.abs().max()) > 0
    torch.testing.assert_close(ours, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)
