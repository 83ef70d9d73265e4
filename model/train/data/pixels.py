"""Pixels: conversions and random mirroring of pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 0 .. 255 -> float -1 .. 1."""
    return images.float() / 127.5 - 1.0


def from_unit_range(pixels: Tensor) -> Tensor:
    """Float -1 .. 1, clamped -> uint8 0 .. 255."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def mirror_half(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each of the pictures (N, C, S, S) with probability one half."""
    draws = torch.rand(len(pixels), generator=generator, device=generator.device)
    return torch.where((draws < 0.5)[:, None, None, None], pixels.flip(3), pixels)
