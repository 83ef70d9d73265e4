"""What a request with sampler "fitted" may ask for: the steps and guidance that a model's solvers have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from model.sampling.fitted import FittedSolver
from model.sampling.parameters import Sampling
from service.errors import FieldError

OTHERS = "ddim, ddpm or dpmpp_2m"


def unfitted(sampling: Sampling, solvers: Sequence[FittedSolver]) -> list[FieldError]:
    """What is wrong if no solver is fitted to these steps at this guidance; empty if one is."""
    if not solvers:
        message = f"must be {OTHERS}: no solver was fitted to this model"
        return [FieldError("sampler", message, "fitted", OTHERS)]
    steps, cfg_scale = sampling.num_sampling_steps, sampling.cfg_scale
    of_these_steps = [each for each in solvers if each.num_sampling_steps == steps]
    if not of_these_steps:
        allowed = _listed(str(each) for each in sorted({s.num_sampling_steps for s in solvers}))
        message = f"must be {allowed} with sampler fitted"
        return [FieldError("num_sampling_steps", message, steps, allowed)]
    if any(each.covers(cfg_scale) for each in of_these_steps):
        return []
    allowed = _listed(f"{each.low:g} .. {each.high:g}" for each in of_these_steps)
    message = f"must be {allowed} with sampler fitted in {steps} steps; dpmpp_2m takes any"
    return [FieldError("cfg_scale", message, cfg_scale, allowed)]


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
