"""Trajectory: one image's way from noise to clean latent, known in full before its first step."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.sampling.samplers import NoiseSchedule, SamplerTable, sampler_table


@dataclass(frozen=True)
class Trajectory:
    """What one image does at every step.

    ``rows`` gives the rows it takes in the forward pass at each step: two where it is guided (its
    class and the null class), else one.
    """

    class_label: int
    cfg_scale: float
    seed: int
    table: SamplerTable
    rows: tuple[int, ...]

    @property
    def steps(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def row_steps(self) -> int:
        return sum(self.rows)

    @functools.cached_property
    def peak_rows(self) -> int:
        """The most rows it takes at any step."""
        return max(self.rows)


def plan_trajectory(
    schedule: NoiseSchedule,
    *,
    class_label: int,
    cfg_scale: float,
    num_sampling_steps: int,
    sampler: str,
    seed: int,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
) -> Trajectory:
    """Plan one image.

    Raises:
        ValueError: the sampler is unknown or the step count out of range.
    """
    table = sampler_table(schedule, sampler, num_sampling_steps)
    guided = guided_steps(schedule, table, cfg_scale, guidance_interval)
    rows = tuple(2 if each else 1 for each in guided)
    return Trajectory(class_label, cfg_scale, seed, table, rows)


def guided_steps(
    schedule: NoiseSchedule,
    table: SamplerTable,
    cfg_scale: float,
    guidance_interval: tuple[float, float],
) -> list[bool]:
    """Whether each step is guided.

    Guidance applies where the timestep, as a share of the noise range from 0 (picture) to 1 (pure
    noise), lies in ``guidance_interval``, both ends included (Kynkaanniemi et al. 2024, arXiv
    2404.07724). At ``cfg_scale`` 1 it changes nothing and takes no row.
    """
    low, high = guidance_interval
    shares = (table.timesteps / (schedule.num_train_timesteps - 1)).tolist()
    return [cfg_scale != 1.0 and low <= share <= high for share in shares]


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
