"""Work: how many row-steps a request takes, as far as its body and the model's description tell.

A replica counts exactly. The front needs to know before it has chosen one, and without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.http.openai.request import PRESETS
from service.http.schemas import ModelDescription, RecipeDescription
from service.images.request import NAMED_STEPS

Body = Mapping[str, object]

ROWS_UNKNOWN = 2 * NAMED_STEPS
"""Row-steps of an image while nothing is known of the model."""


def row_steps_of(body: Body, model: ModelDescription | None) -> int:
    """The row-steps of a request for pictures, 1 or more; an estimate where guidance is partial."""
    images = number_in(body, "num_images", "n") or 1
    if model is None:
        steps = number_in(body, "num_sampling_steps", "num_inference_steps")
        return max(1, round(images * (2 * steps if steps else ROWS_UNKNOWN)))
    cfg_scale = number_in(body, "cfg_scale", "guidance_scale") or _float(
        model.defaults["cfg_scale"]
    )
    steps, interval = _recipe(body, model, cfg_scale)
    low, high = _interval(body.get("guidance_interval")) or interval
    guided = max(0.0, min(high, 1.0) - max(low, 0.0)) if cfg_scale != 1.0 else 0.0
    return max(1, round(images * steps * (1 + guided)))


def images_of(body: Body) -> int:
    """How many images a request is for, 1 or more."""
    return max(1, round(number_in(body, "num_images", "n") or 1))


def _recipe(
    body: Body, model: ModelDescription, cfg_scale: float
) -> tuple[float, tuple[float, float]]:
    """Steps and guidance interval, as `service.images.recipe` chooses them."""
    steps = number_in(body, "num_sampling_steps", "num_inference_steps")
    if steps:
        return steps, (0.0, 1.0)
    quality, default = body.get("quality"), model.defaults["quality"]
    sampler = body.get("sampler")
    if sampler is not None or (quality is None and default is None):
        named = _steps_of_sampler(sampler, model, cfg_scale)
        return named or _float(model.defaults["num_sampling_steps"]), (0.0, 1.0)
    named_quality = PRESETS.get(str(quality)) or str(quality)
    recipes = model.presets.get(named_quality) or model.presets.get(str(default), [])  # type: ignore[call-overload]
    recipe = _covering(recipes, cfg_scale)
    if recipe is None:
        return _float(model.defaults["num_sampling_steps"]), (0.0, 1.0)
    return recipe.num_sampling_steps, recipe.guidance_interval


def _covering(recipes: list[RecipeDescription], cfg_scale: float) -> RecipeDescription | None:
    fits = (each for each in recipes if each.cfg_scale[0] <= cfg_scale <= each.cfg_scale[1])
    return next(fits, None)


def _steps_of_sampler(sampler: object, model: ModelDescription, cfg_scale: float) -> float | None:
    """The most steps of a sampler that has tables; None if it has none."""
    tables = model.limits.get(sampler) if sampler in ("fitted", "ns") else None
    steps = [number_in(each, "num_sampling_steps") or 0.0 for each in _objects(tables)]
    if steps:
        return max(steps)
    if model.defaults["quality"] is not None and sampler is not None:
        return NAMED_STEPS
    return None


def _objects(value: object) -> list[Body]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def number_in(body: Body, *names: str) -> float | None:
    """The first of these members that is a positive number."""
    for name in names:
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6:
            return float(value)
    return None


def _interval(value: object) -> tuple[float, float] | None:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(x, int | float) for x in value)
    ):
        return float(value[0]), float(value[1])
    return None


def _float(value: object) -> float:
    assert isinstance(value, int | float), "this is a bug: /models has numbers here"
    return float(value)
