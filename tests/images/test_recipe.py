"""ChosenRecipe: the steps of a request that names a sampler alone, or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.sampling.parameters import SamplerName
from service.images.recipe import choose_recipe
from service.images.request import GenerateRequest
from tests.support.fitted_solvers import some_solver
from tests.support.services import LIMITS, Running

SOLVERS = (some_solver(2, high=4.0), some_solver(3, high=2.0))


@pytest.mark.parametrize(
    ("sampler", "default_steps", "cfg_scale", "steps"),
    [
        ("fitted", None, 1.5, 3),
        ("fitted", 50, 1.5, 3),  # there is no such table
        ("fitted", 2, 1.5, 2),
        ("fitted", None, 3.0, 2),  # the table of three steps is not for this guidance
        ("fitted", None, 20.0, 3),  # neither is; the error names what there is
        ("ns", None, 1.5, 10),
        ("ns", 50, 1.5, 10),
        ("ns", 8, 1.5, 8),
        ("ddim", 8, 1.5, 8),
        ("ddim", None, 1.5, 50),
    ],
)
def test_the_servers_steps_count_where_the_sampler_has_them(
    service: Running,
    sampler: SamplerName,
    default_steps: int | None,
    cfg_scale: float,
    steps: int,
) -> None:
    model_info = replace(service.engine.model_info, fitted=SOLVERS)
    limits = replace(LIMITS, sampler=None, num_sampling_steps=default_steps)
    for asked, server in ((sampler, limits), (None, replace(limits, sampler=sampler))):
        request = GenerateRequest(class_label=0, sampler=asked)
        chosen = choose_recipe(request, cfg_scale, model_info, server)
        assert (chosen.recipe.sampler, chosen.recipe.num_sampling_steps) == (sampler, steps)
