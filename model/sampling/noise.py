"""Noise: the random draws that belong to one image, and the seeds of a request's images."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from model.sampling.parameters import DRAWN_SEEDS


def seed_of_image(seed: int, index: int) -> int:
    """The seed of image ``index`` of a request; image 0 has the request's own.

    The other seeds are hashes below ``DRAWN_SEEDS``, so that requests with neighbouring seeds share
    no image. Each is an ordinary seed: a request for one image with it gives that image again.
    """
    return seed if index == 0 else _digest(f"{seed}/{index}") % DRAWN_SEEDS


class ImageNoise:
    """One image's standard normal draws: its first latent, then one for each step that adds noise.

    Seeds up to 2**32 - 1 give the draws of ``torch.Generator().manual_seed(seed)`` on the CPU,
    whatever the device. torch keeps only the low 32 bits of a seed, so a larger seed sums two
    generators.
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
    """A 64-bit hash of ``text``."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
