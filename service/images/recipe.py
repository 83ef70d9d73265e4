"""ChosenRecipe: the sampler, steps and guidance interval of a request."""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.sampling import ns
from model.sampling.parameters import SamplerName
from model.sampling.presets import Quality, Recipe, recipe_for
from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest
from service.images.limits import RequestLimits
from service.images.request import GenerateRequest

NAMED_STEPS = 50
NAMED_SAMPLER: SamplerName = "ddim"
"""What a request takes that names only the other of the two, as far as the server has no default."""


@dataclass(frozen=True, slots=True)
class ChosenRecipe:
    """A recipe, and the quality that it stands for; None if steps or sampler were named."""

    quality: Quality | None
    recipe: Recipe


def choose_recipe(
    request: GenerateRequest, cfg_scale: float, model_info: ModelInfo, limits: RequestLimits
) -> ChosenRecipe:
    """Exactly what the request names, or else its quality's recipe, or else the server's default.

    Raises:
        InvalidRequest: it names a quality together with steps or a sampler.
    """
    named = request.sampler is not None or request.num_sampling_steps is not None
    if named and request.quality is not None:
        allowed = "either a quality, or num_sampling_steps and sampler"
        raise InvalidRequest(
            FieldError("quality", f"must be left out: name {allowed}", request.quality, allowed)
        )
    by_server = limits.sampler is not None or limits.num_sampling_steps is not None
    if request.quality is None and (named or by_server):
        chosen = ChosenRecipe(None, _named(request, model_info, limits))
    else:
        quality = request.quality or limits.quality
        chosen = ChosenRecipe(quality, _preset(quality, cfg_scale, model_info))
    if request.guidance_interval is None:
        return chosen
    own = replace(chosen.recipe, guidance_interval=request.guidance_interval)
    return ChosenRecipe(chosen.quality, own)


def _preset(quality: Quality, cfg_scale: float, model_info: ModelInfo) -> Recipe:
    recipe = recipe_for(model_info.presets, quality, cfg_scale)
    steps = min(recipe.num_sampling_steps, model_info.max_steps)
    return replace(recipe, num_sampling_steps=steps)


def _named(request: GenerateRequest, model_info: ModelInfo, limits: RequestLimits) -> Recipe:
    sampler = request.sampler or limits.sampler or NAMED_SAMPLER
    steps = request.num_sampling_steps or _default_steps(sampler, model_info, limits)
    return Recipe(sampler=sampler, num_sampling_steps=steps)


def _default_steps(sampler: SamplerName, model_info: ModelInfo, limits: RequestLimits) -> int:
    """The steps of a request that names none: where there are tables, the most of these."""
    if sampler == "ns":
        return max(ns.STEPS)
    if sampler == "fitted" and model_info.fitted:
        return max(solver.num_sampling_steps for solver in model_info.fitted)
    return min(limits.num_sampling_steps or NAMED_STEPS, model_info.max_steps)
