"""FittedSolver: a sampler of few steps whose table was fitted to one model."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from model.sampling.samplers import SamplerTable, two_estimate_table
from model.sampling.schedule import NoiseSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedSolver:
    """One table: whole timesteps and a step's coefficients, and what it was fitted to.

    Attributes:
        low, high: the guidance for which it is better than DPM-Solver++(2M) of as many steps.
        cfg_scale: the guidance it was fitted at.
        error: the median squared distance of final latents to the teacher's, relative to their
            variance, on noises that the fit has not seen.
        error_dpmpp_2m: the same of DPM-Solver++(2M).
    """

    timesteps: tuple[int, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    cfg_scale: float
    low: float
    high: float
    error: float
    error_dpmpp_2m: float

    @property
    def num_sampling_steps(self) -> int:
        return len(self.timesteps)

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the table."""
        columns = (self.timesteps, self.a, self.b, self.c)
        return hashlib.sha256(json.dumps(columns).encode()).hexdigest()

    def covers(self, cfg_scale: float) -> bool:
        """Whether it is meant for this guidance."""
        return self.low <= cfg_scale <= self.high

    @functools.lru_cache(maxsize=256)  # noqa: B019 - solvers live as long as their model
    def table(self, schedule: NoiseSchedule) -> SamplerTable:
        """The table in the schedule's terms; cached, as every image asks for it.

        Raises:
            ValueError: it is not one of this schedule.
        """
        return two_estimate_table(schedule, self.timesteps, a=self.a, b=self.b, c=self.c)


def fitted_solver(
    solvers: Iterable[FittedSolver], num_sampling_steps: int, cfg_scale: float
) -> FittedSolver:
    """The solver of these steps at this guidance.

    Raises:
        ValueError: there is none.
    """
    of_these_steps = [each for each in solvers if each.num_sampling_steps == num_sampling_steps]
    fitting = [each for each in of_these_steps if each.covers(cfg_scale)]
    if not fitting:
        raise ValueError(f"no solver is fitted to {num_sampling_steps} steps at {cfg_scale:g}")
    return fitting[0]
