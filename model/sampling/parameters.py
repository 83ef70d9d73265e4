"""Sampling: what decides one image's latent, and the range of each quantity.

Free of torch, so that settings and request schemas can use these types before torch is loaded. A
``doc`` says in words, for error messages, what a range alone does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, Predicate, doc

SamplerName = Literal["ddim", "ddpm", "dpmpp_2m", "fitted", "ns"]
"""The list of samplers. `model.sampling.samplers.SAMPLERS` has a table builder for each but "fitted",
whose tables come with the model (`model.sampling.fitted`), and "ns", which has tables for one
architecture (`model.sampling.ns`)."""

MIN_CFG_SCALE, MAX_CFG_SCALE = 1.0, 20.0
MAX_SEED = 2**63 - 1
DRAWN_SEEDS = 2**53
"""Seeds that nobody chose are below this: every reader of JSON keeps such integers exactly."""
MAX_STEPS = 1000
WHOLE_RANGE = (0.0, 1.0)
"""The guidance interval that is never outside."""


def is_ascending(interval: tuple[float, float]) -> bool:
    """Whether the interval's end is not below its start."""
    return interval[0] <= interval[1]


CfgScale = Annotated[float, Ge(MIN_CFG_SCALE), Le(MAX_CFG_SCALE)]
StepCount = Annotated[int, Ge(1), Le(MAX_STEPS)]
ChannelCount = Annotated[int, Ge(1)]
Seed = Annotated[int, Ge(0), Le(MAX_SEED)]
Fraction = Annotated[float, Ge(0.0), Le(1.0)]
GuidanceInterval = Annotated[
    tuple[Fraction, Fraction],
    Predicate(is_ascending),
    doc("[low, high] with 0 <= low <= high <= 1"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How one image is sampled. With the model's weights, this decides its latent.

    ``guidance_interval`` is the part of the noise range, from 0 (picture) to 1 (pure noise), in
    which guidance applies, both ends included. ``cfg_channels`` are the first channels of the noise,
    to which guidance is limited; None: it applies to all.
    """

    class_label: Annotated[int, Ge(0)]
    cfg_scale: CfgScale
    num_sampling_steps: StepCount
    sampler: SamplerName
    seed: Seed
    guidance_interval: GuidanceInterval
    cfg_channels: ChannelCount | None = None
