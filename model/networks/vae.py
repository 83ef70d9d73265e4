"""Vae: latents to images, through diffusers' autoencoders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Vae:
    """An autoencoder's decoder on its device.

    ``downscale_factor`` is pixels per latent along a side. A latent of the diffusion is
    ``(z - shift_factor) * scaling_factor`` for the autoencoder's own latent z.
    """

    module: AutoencoderKL | AutoencoderTiny
    latent_channels: int
    downscale_factor: int
    scaling_factor: float
    shift_factor: float

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Decode latents of the diffusion, (N, C, h, w), without waiting for the device.

        Returns:
            The images, uint8 (N, H, W, 3): (x / 2 + 0.5) * 255 clamped and rounded half to even.
            And whether each image is finite, bool (N,); one that is not has 0 in place of NaN.
        """
        z = latents.float() / self.scaling_factor + self.shift_factor
        z = z.to(self.module.dtype, memory_format=torch.channels_last)
        x = self.module.decode(z, return_dict=False)[0].float()  # (N, 3, H, W)
        finite = x.isfinite().flatten(1).all(1)
        levels = ((x / 2 + 0.5) * 255).clamp(0, 255).round().nan_to_num(nan=0.0)
        return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), finite
