"""Latents: photographs encoded once by the autoencoder and cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor

from model.train.data.pixels import to_unit_range


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """uint8 (N, 3, S, S) -> scaled posterior means, the DiT's input: fp32 (N, C, s, s), on the CPU."""
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
    """Latents (N, 2, C, s, s) of uint8 (N, 3, S, S) photographs: unchanged and mirrored.

    The file ``cache`` keeps them; it is used again only for the same photographs and encoder.
    """
    with accelerator.main_process_first():
        vae = AutoencoderKL.from_pretrained(vae_folder).eval().to(accelerator.device)
        key = digest([images, *encoder_weights(vae)])
        if cache.exists():
            cached: dict[str, object] = torch.load(cache, weights_only=True)
            if cached["key"] == key:
                return cast(Tensor, cached["latents"])
        print(f"encoding {len(images)} photographs, unchanged and mirrored", flush=True)
        latents = torch.stack([encode(vae, images), encode(vae, images.flip(3))], dim=1)
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(".tmp")
        torch.save({"key": key, "latents": latents}, temporary)
        temporary.replace(cache)
    return latents


def sample_batch(
    latents: Tensor, batch_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose a random batch of latents (N, M, C, s, s).

    Returns:
        The chosen photographs (B,), and which of its M views of each: 0 unchanged, 1 mirrored.
    """
    device, batch = generator.device, (batch_size,)
    chosen = torch.randint(len(latents), batch, generator=generator, device=device)
    return chosen, torch.randint(latents.shape[1], batch, generator=generator, device=device)


def encoder_weights(vae: AutoencoderKL) -> list[Tensor]:
    """Everything, besides the photograph, that determines a latent."""
    scale = torch.tensor([vae.config.scaling_factor, vae.config.shift_factor or 0.0])
    parts = [part for part in (vae.encoder, vae.quant_conv) if part is not None]
    return [scale, *(weight for part in parts for weight in part.state_dict().values())]


def fingerprint(examples: Tensor, *others: Tensor) -> str:
    """How many examples there are, and a hash that differs for others."""
    return f"{len(examples)} with hash {digest([examples, *others])[:8]}"


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of the tensors' bytes."""
    hashed = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        hashed.update(tensor.cpu().contiguous().numpy().data)
    return hashed.hexdigest()
