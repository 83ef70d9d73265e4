"""What a request with a sampler that needs tables may ask for: the steps and guidance that they have.

The tables of "fitted" come with the model, those of "ns" are for one architecture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from model.sampling import ns
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


def unsearched(sampling: Sampling, *, offered: bool) -> list[FieldError]:
    """What is wrong if sampler "ns" has no table for this; ``offered``: it has some for the model."""
    if not offered:
        which = f"{ns.ARCHITECTURE} with the official noise schedule"
        message = f"must be {OTHERS}: ns is for {which}"
        return [FieldError("sampler", message, "ns", OTHERS)]
    wrong = []
    steps, cfg_scale, (low, high) = sampling.num_sampling_steps, sampling.cfg_scale, ns.CFG_SCALES
    if steps not in ns.STEPS:
        allowed = f"an integer from {min(ns.STEPS)} to {max(ns.STEPS)}"
        message = f"must be {allowed} with sampler ns"
        wrong.append(FieldError("num_sampling_steps", message, steps, allowed))
    if not low <= cfg_scale <= high:
        allowed = f"{low:g} .. {high:g}"
        message = f"must be {allowed} with sampler ns; dpmpp_2m takes any"
        wrong.append(FieldError("cfg_scale", message, cfg_scale, allowed))
    return wrong


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
