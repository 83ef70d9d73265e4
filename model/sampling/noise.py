"""Noise: the random draws that belong to one image, and the seeds of a request's images."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def seed_of_image(seed: int, index: int) -> int:
    """The seed (0 .. 2**63 - 1) of a request's ``index``-th image; the first has the request's own.

    The others' are hashed, so that requests with neighbouring seeds share no picture, and each is
    a seed like any other: sent alone it gives that image again.
    """
    return seed if index == 0 else _digest(f"{seed}/{index}") >> 1


class ImageNoise:
    """The standard normal draws that belong to one image: its first latent, then a step's each.

    Up to 2**32 - 1 a seed gives what ``torch.Generator().manual_seed(seed)`` gives on the CPU,
    whatever the device. torch keeps only a seed's low 32 bits, so larger seeds sum two generators.
    """

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self._shape = shape
        halves = [seed]
        if seed >> 32:
            digest = _digest(str(seed))
            halves = [digest >> 32, digest & 0xFFFFFFFF]
        self._generators = [torch.Generator().manual_seed(half) for half in halves]

    def draw(self) -> Tensor:
        """The next draw: fp32 of the image's shape, on the CPU."""
        parts = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        return torch.stack(parts).sum(0) / math.sqrt(len(parts)) if len(parts) > 1 else parts[0]


def _digest(text: str) -> int:
    """64 well mixed bits of ``text``."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
