"""The presets of a model: those of its card, of its fitted solvers, of its architecture, of any model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from model.sampling import ns
from model.sampling.fitted import FittedSolver
from model.sampling.parameters import (
    MAX_CFG_SCALE,
    MAX_STEPS,
    MIN_CFG_SCALE,
    WHOLE_RANGE,
    SamplerName,
)
from model.sampling.presets import ANY_MODEL, Presets, Quality, Recipe, with_recipes
from model.sampling.schedule import NoiseSchedule
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError

KEY = "presets"
"""Our own key in model_index.json; diffusers ignores it."""

_NS_STEPS: dict[Quality, int] = {"fast": 8, "balanced": 10}

OF_NS: Presets = {
    quality: (Recipe(sampler="ns", num_sampling_steps=steps, low=low, high=high),)
    for low, high in [ns.CFG_SCALES]
    for quality, steps in _NS_STEPS.items()
}
"""For DiT-XL/2: at 256 pixels and guidance 1.5, its Frechet distance is 2.51 in 8 steps and 2.33 in 10,
where DPM-Solver++(2M) in 10 has 3.23 and DDIM in 50 has 2.28 (arXiv 2505.21114, appendix J.3)."""


def model_presets(
    index: JsonFile | None,
    schedule: NoiseSchedule,
    fitted: Sequence[FittedSolver],
    *,
    offers_ns: bool = False,
) -> Presets:
    """The presets of a model, with ``index`` its model_index.json if it has one.

    Raises:
        CheckpointError: the card's presets are malformed, or ask for what the model does not have.
    """
    of_architecture = with_recipes(ANY_MODEL, OF_NS) if offers_ns else ANY_MODEL
    presets = with_recipes(of_architecture, _of_fitted(fitted))
    if index is None or index.fields.get(KEY) is None:
        return presets
    reader = _CardReader(index.path, schedule, fitted, offers_ns=offers_ns)
    return with_recipes(presets, reader.read(index))


def _of_fitted(fitted: Sequence[FittedSolver]) -> dict[Quality, list[Recipe]]:
    """Fast takes the fewest steps that are fitted to the guidance, balanced the most."""
    by_steps = sorted(fitted, key=lambda solver: solver.num_sampling_steps)
    recipes = [
        Recipe(
            sampler="fitted",
            num_sampling_steps=solver.num_sampling_steps,
            low=solver.low,
            high=solver.high,
        )
        for solver in by_steps
    ]
    return {"fast": recipes, "balanced": recipes[::-1]}


class _CardReader:
    """Reads the presets of one model_index.json."""

    def __init__(
        self,
        path: Path,
        schedule: NoiseSchedule,
        fitted: Sequence[FittedSolver],
        *,
        offers_ns: bool,
    ) -> None:
        self._path = path
        self._max_steps = min(schedule.num_train_timesteps, MAX_STEPS)
        self._fitted = fitted
        self._offers_ns = offers_ns

    def read(self, index: JsonFile) -> dict[Quality, list[Recipe]]:
        """The recipes of each quality that the card has."""
        presets = index.fields[KEY]
        if not isinstance(presets, dict):
            raise index.error(KEY, "must be an object")
        qualities = get_args(Quality)
        for name in presets:
            if name not in qualities:
                raise CheckpointError(
                    self._path, f"{KEY} has {name!r}, but knows only {', '.join(qualities)}"
                )
        return {quality: self._recipes(quality, presets.get(quality)) for quality in qualities}

    def _recipes(self, quality: str, entries: object) -> list[Recipe]:
        if entries is None:
            return []
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise CheckpointError(self._path, f"{KEY}.{quality} must be a list of objects")
        return [self._recipe(JsonFile(self._path, entry)) for entry in entries]

    def _recipe(self, entry: JsonFile) -> Recipe:
        entry.forbid_others(("sampler", "num_sampling_steps", "guidance_interval", "cfg_scale"))
        low, high = self._range(entry, "cfg_scale", MIN_CFG_SCALE, MAX_CFG_SCALE)
        recipe = Recipe(
            sampler=self._sampler(entry),
            num_sampling_steps=entry.integer("num_sampling_steps", 0, high=self._max_steps),
            guidance_interval=self._range(entry, "guidance_interval", *WHOLE_RANGE),
            low=low,
            high=high,
        )
        if recipe.sampler == "fitted" and not self._is_fitted(recipe):
            problem = f"no solver is fitted to this at all of cfg_scale {low:g} .. {high:g}"
            raise entry.error("num_sampling_steps", problem)
        if recipe.sampler == "ns" and not self._is_searched(recipe):
            raise entry.error("sampler", "has no table for this model, steps and guidance")
        return recipe

    def _sampler(self, entry: JsonFile) -> SamplerName:
        given, samplers = entry.string("sampler"), get_args(SamplerName)
        sampler: SamplerName | None = next((known for known in samplers if known == given), None)
        if sampler is None:
            raise entry.error("sampler", f"must be one of {', '.join(samplers)}")
        return sampler

    def _range(self, entry: JsonFile, key: str, low: float, high: float) -> tuple[float, float]:
        """Two ascending numbers within ``low`` .. ``high``, which is the default."""
        values = entry.fields.get(key, [low, high])
        if not isinstance(values, list) or len(values) != 2 or None in values:
            raise entry.error(key, "must be a list of two numbers")
        first, last = (JsonFile(self._path, {key: each}).number(key, low) for each in values)
        if not low <= first <= last <= high:
            raise entry.error(key, f"must ascend within {low:g} .. {high:g}")
        return first, last

    def _is_searched(self, recipe: Recipe) -> bool:
        low, high = ns.CFG_SCALES
        known = self._offers_ns and recipe.num_sampling_steps in ns.STEPS
        return known and low <= recipe.low <= recipe.high <= high

    def _is_fitted(self, recipe: Recipe) -> bool:
        return any(
            solver.num_sampling_steps == recipe.num_sampling_steps
            and solver.covers(recipe.low)
            and solver.covers(recipe.high)
            for solver in self._fitted
        )
