"""Latents: photographs as an autoencoder sees them, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor

from model.train.autoencoder.autoencoder import to_unit_range


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """uint8 (N, 3, S, S) -> the posterior means, as the DiT sees them: fp32 (N, C, s, s), on the CPU."""
    shift = vae.config.shift_factor or 0.0
    latents = []
    for part in torch.split(images, 64):
        pixels = to_unit_range(part.to(vae.device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            mean = vae.encode(pixels).latent_dist.mean
        latents.append(((mean.float() - shift) * vae.config.scaling_factor).contiguous().cpu())
    return torch.cat(latents)


def training_latents(
    images: Tensor, vae_folder: Path, cache: Path, accelerator: Accelerator
) -> Tensor:
    """Latents (N, 2, C, s, s) of uint8 (N, 3, S, S) photographs: as they are, and mirrored.

    They are kept in ``cache``, for these photographs and this encoder alone.
    """
    with accelerator.main_process_first():
        vae = AutoencoderKL.from_pretrained(vae_folder).eval().to(accelerator.device)
        key = digest([images, *encoder_weights(vae)])
        if cache.exists():
            kept: dict[str, Any] = torch.load(cache, weights_only=True)
            if kept["key"] == key:
                return cast(Tensor, kept["latents"])
        print(f"encoding {len(images)} photographs, as they are and mirrored", flush=True)
        latents = torch.stack([encode(vae, images), encode(vae, images.flip(3))], dim=1)
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = cache.with_suffix(".tmp")
        torch.save({"key": key, "latents": latents}, fresh)
        fresh.replace(cache)
    return latents


def draw(latents: Tensor, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which photographs of (N, M, C, s, s) latents a batch holds, and which of the M views of each."""
    device, batch = generator.device, (batch_size,)
    chosen = torch.randint(len(latents), batch, generator=generator, device=device)
    return chosen, torch.randint(latents.shape[1], batch, generator=generator, device=device)


def encoder_weights(vae: AutoencoderKL) -> list[Tensor]:
    """All that a latent depends on beside the photograph."""
    scale = torch.tensor([vae.config.scaling_factor, vae.config.shift_factor or 0.0])
    parts = [part for part in (vae.encoder, vae.quant_conv) if part is not None]
    return [scale, *(weight for part in parts for weight in part.state_dict().values())]


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of the tensors' bytes."""
    hashed = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        hashed.update(tensor.cpu().contiguous().numpy().data)
    return hashed.hexdigest()
