"""Vae: the decoder of one of diffusers' autoencoders, latents to images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor


def memory_format_on(device: torch.device) -> torch.memory_format:
    """The memory format of a decoder's weights and activations.

    channels_last is faster on a CPU. Elsewhere, torch's group norm takes and gives contiguous tensors
    only, so each pair of norm and convolution would copy its activations twice.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


@dataclass(frozen=True, slots=True)
class Vae:
    """An autoencoder's decoder on its device.

    ``downscale_factor`` is the number of pixels per latent along a side. The diffusion model's latent
    is ``(z - shift_factor) * scaling_factor``, where z is the autoencoder's own.
    """

    module: AutoencoderKL | AutoencoderTiny
    latent_channels: int
    downscale_factor: int
    scaling_factor: float
    shift_factor: float

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the diffusion model's latents (N, C, h, w) without waiting for the device.

        Returns:
            The images, uint8 (N, H, W, 3): (x / 2 + 0.5) * 255 clamped and rounded half to even,
            with 0 in place of NaN; and whether each image is finite, bool (N,).
        """
        z = latents.float() / self.scaling_factor + self.shift_factor
        z = z.to(self.module.dtype, memory_format=memory_format_on(z.device))
        x = self.module.decode(z, return_dict=False)[0].float()  # (N, 3, H, W)
        finite = x.isfinite().flatten(1).all(1)
        levels = ((x / 2 + 0.5) * 255).clamp(0, 255).round().nan_to_num(nan=0.0)
        return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), finite
