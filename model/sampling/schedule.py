"""NoiseSchedule: how much noise each timestep has."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NoiseSchedule:
    """The linear variance schedule of Ho et al. 2020, with DiT's values."""

    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    @functools.cached_property
    def alpha_bar(self) -> np.ndarray:
        """Cumulative product of 1 - beta: float64 (num_train_timesteps,)."""
        betas = np.linspace(self.beta_start, self.beta_end, self.num_train_timesteps)
        return np.cumprod(1.0 - betas)
