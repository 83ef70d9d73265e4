"""ChosenRecipe: the sampler, steps and guidance interval of a request."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from model.sampling import ns
from model.sampling.parameters import SamplerName
from model.sampling.presets import Quality, Recipe, recipe_for
from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest
from service.images.limits import RequestLimits
from service.images.request import NAMED_STEPS, GenerateRequest

NAMED_SAMPLER: SamplerName = "ddim"
"""What a request takes that names only steps, as far as the server has no default."""


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
        chosen = ChosenRecipe(None, _named(request, cfg_scale, model_info, limits))
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


def _named(
    request: GenerateRequest, cfg_scale: float, model_info: ModelInfo, limits: RequestLimits
) -> Recipe:
    sampler = request.sampler or limits.sampler or NAMED_SAMPLER
    tables = _steps_with_tables(sampler, cfg_scale, model_info)
    steps = request.num_sampling_steps or _default_steps(tables, model_info, limits)
    return Recipe(sampler=sampler, num_sampling_steps=steps)


def _default_steps(tables: Collection[int], model_info: ModelInfo, limits: RequestLimits) -> int:
    """The steps of a request that names none: where there are tables, the most of these.

    The server's default goes before that if there is a table of as many steps.
    """
    if tables and limits.num_sampling_steps not in tables:
        return max(tables)
    return min(limits.num_sampling_steps or NAMED_STEPS, model_info.max_steps)


def _steps_with_tables(
    sampler: SamplerName, cfg_scale: float, model_info: ModelInfo
) -> Collection[int]:
    """Those of the sampler's tables, for this guidance if any are; empty if it needs none."""
    if sampler == "ns":
        return ns.STEPS
    fitted = model_info.fitted if sampler == "fitted" else ()
    covering = [solver for solver in fitted if solver.covers(cfg_scale)]
    return [solver.num_sampling_steps for solver in covering or fitted]
