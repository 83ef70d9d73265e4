"""Presets: how to sample at three qualities, by the guidance asked for. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from model.sampling.parameters import (
    MAX_CFG_SCALE,
    MIN_CFG_SCALE,
    WHOLE_RANGE,
    GuidanceInterval,
    SamplerName,
    StepCount,
)

Quality = Literal["fast", "balanced", "best"]
DEFAULT_QUALITY: Quality = "balanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A sampler, its steps and where guidance applies, for guidance from ``low`` to ``high``."""

    sampler: SamplerName
    num_sampling_steps: StepCount
    guidance_interval: GuidanceInterval = WHOLE_RANGE
    low: float = MIN_CFG_SCALE
    high: float = MAX_CFG_SCALE

    def covers(self, cfg_scale: float) -> bool:
        """Whether it is meant for this guidance."""
        return self.low <= cfg_scale <= self.high


Presets = Mapping[Quality, tuple[Recipe, ...]]
"""The recipes of each quality; the first that covers the guidance applies, and the last covers any."""

ANY_MODEL: Presets = {
    "fast": (Recipe(sampler="dpmpp_2m", num_sampling_steps=10),),
    "balanced": (Recipe(sampler="dpmpp_2m", num_sampling_steps=20),),
    "best": (Recipe(sampler="dpmpp_2m", num_sampling_steps=50),),
}
"""For models about which nothing else is known. docs/bundled-model.md has an example of what
DPM-Solver++(2M) loses with fewer steps."""


def recipe_for(presets: Presets, quality: Quality, cfg_scale: float) -> Recipe:
    """The recipe of a quality at this guidance.

    Raises:
        ValueError: none covers it.
    """
    for recipe in presets[quality]:
        if recipe.covers(cfg_scale):
            return recipe
    raise ValueError(f"no recipe of {quality} covers a cfg_scale of {cfg_scale:g}")


def with_recipes(presets: Presets, first: Mapping[Quality, Iterable[Recipe]]) -> Presets:
    """``presets`` with these recipes ahead of those that are there, as far as any guidance is left to them."""
    return {
        quality: _reachable([*first.get(quality, ()), *recipes])
        for quality, recipes in presets.items()
    }


def _reachable(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Without those whose guidance one before them covers as a whole."""
    return tuple(
        recipe
        for i, recipe in enumerate(recipes)
        if not any(each.covers(recipe.low) and each.covers(recipe.high) for each in recipes[:i])
    )
