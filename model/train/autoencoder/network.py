"""The network: a small AutoencoderKL in diffusers' layout, and its reconstructions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from model.train.data.pixels import from_unit_range, to_unit_range

WIDTHS = {4: (16, 32, 64), 8: (16, 32, 64, 64)}
"""Channels of the stages, by downscaling factor."""


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Channels of the latents, and how many times smaller than the picture their side is."""

    channels: int = 4
    downscale: int = 4  # one of WIDTHS


def small_autoencoder(image_size: int, shape: LatentShape = LatentShape()) -> AutoencoderKL:
    """An untrained AutoencoderKL of 0.65 M parameters (0.95 M at downscaling 8)."""
    widths = WIDTHS[shape.downscale]
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=shape.channels,
        norm_num_groups=8,
        sample_size=image_size,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def decoder_layers(vae: AutoencoderKL) -> list[nn.Module]:
    """The layers from latents to pictures, in order."""
    return [layer for layer in (vae.post_quant_conv, vae.decoder) if layer is not None]


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, images: Tensor) -> None:
    """Fold each latent channel's mean and deviation into the 1x1 convolutions around the latent.

    Afterwards the latents of ``images`` have mean 0 and deviation 1 in every channel, so that
    scaling_factor can be 1, and the decoder gives the same pictures as before.
    """
    latents = torch.cat(
        [vae.encode(to_unit_range(part)).latent_dist.mean for part in torch.split(images, 64)]
    )
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (C,) each
    channels = len(mean)
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += (after.weight[:, :, 0, 0] * mean).sum(1)
    after.weight *= deviation[None, :, None, None]
    before.weight[:channels] /= deviation[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / deviation
    before.bias[channels:] -= 2 * deviation.log()  # the other half of the moments is log variance


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode and decode uint8 photographs (N, 3, S, S); uint8 again."""
    rebuilt = []
    for part in torch.split(images, 64):
        latents = vae.encode(to_unit_range(part)).latent_dist.mean
        rebuilt.append(from_unit_range(vae.decode(latents).sample))
    return torch.cat(rebuilt)
