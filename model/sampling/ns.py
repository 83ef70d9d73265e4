"""NS: the multistep solver that was searched for DiT-XL/2, with a table for each of 5 to 10 steps.

Wang et al. 2025, "Differentiable Solver Search for Fast Diffusion Sampling" (arXiv 2505.21114). The
numbers are those of `src/diffusion/ddpm/ns_sampling.py` in github.com/MCG-NJU/NeuralSolver; the sampler
there applies each step twice, so the step below is equation 19 of the paper instead.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch

from model.sampling.samplers import COLUMNS, LOOKBACK, SamplerTable
from model.sampling.schedule import NoiseSchedule

ARCHITECTURE = "DiT-XL/2"
SCHEDULE = NoiseSchedule()
CFG_SCALES = (1.0, 2.0)
"""The guidance for which it is meant; it was searched at 1.5."""

BETA_MIN, BETA_MAX = 0.1, 20.0
FIRST_TIME, LAST_TIME = 0.999, 0.001
"""Of 1 for the last timestep of training; a step that leads further ends here."""

DELTAS: dict[int, tuple[float, ...]] = {
    5: (0.2582, 0.1766, 0.1766, 0.2156, 0.1731),
    6: (0.2483, 0.1506, 0.1476, 0.1568, 0.1733, 0.1233),
    7: (0.2241, 0.1415, 0.1205, 0.1158, 0.1443, 0.1627, 0.0911),
    8: (0.2033, 0.1476, 0.1094, 0.0990, 0.1116, 0.1233, 0.1310, 0.0748),
    9: (0.1959, 0.1313, 0.1142, 0.0863, 0.0898, 0.0916, 0.1119, 0.1054, 0.0735),
    10: (0.2174, 0.1123, 0.1037, 0.0724, 0.0681, 0.0816, 0.0938, 0.0977, 0.0849, 0.0681),
}
"""How far each step goes in time."""

WEIGHTS: dict[int, tuple[tuple[float, ...], ...]] = {
    5: ((), (-1.43,), (0.93, -1.55), (0.0, 0.0, -0.69), (0.0, 0.0, 0.0, -0.59)),
    6: (
        (),
        (-1.36,),
        (0.90, -1.84),
        (-0.08, 0.50, -1.08),
        (0.0, 0.0, 0.0, -0.56),
        (0.0, 0.0, 0.0, 0.0, -0.56),
    ),
    7: (
        (),
        (-1.38,),
        (1.08, -2.02),
        (-0.28, 0.78, -1.52),
        (0.0, -0.10, 0.64, -1.50),
        (0.06, -0.06, -0.06, 0.26, -1.00),
        (0.0, -0.10, 0.02, 0.20, 0.26, -1.12),
    ),
    8: (
        (),
        (-1.14,),
        (0.80, -1.76),
        (0.02, 0.48, -1.62),
        (-0.12, 0.06, 0.62, -1.42),
        (0.04, -0.10, 0.12, 0.16, -1.04),
        (0.06, -0.04, -0.06, 0.08, -0.08, -0.56),
        (-0.02, -0.04, -0.04, 0.12, 0.14, 0.04, -0.90),
    ),
    9: (
        (),
        (-1.28,),
        (0.78, -1.62),
        (-0.02, 0.44, -1.48),
        (-0.10, 0.16, 0.36, -1.30),
        (-0.06, -0.04, 0.22, 0.12, -1.08),
        (0.08, -0.10, -0.04, 0.24, -0.06, -0.86),
        (0.04, -0.04, -0.04, 0.0, 0.06, -0.08, -0.50),
        (-0.04, 0.0, 0.0, -0.02, 0.14, 0.02, 0.0, -0.74),
    ),
    10: (
        (),
        (-1.17,),
        (0.35, -0.99),
        (0.25, -0.11, -0.99),
        (0.03, 0.05, -0.07, -0.85),
        (-0.03, 0.03, 0.25, -0.09, -0.93),
        (-0.01, -0.03, -0.01, 0.21, -0.11, -0.67),
        (0.01, -0.03, -0.03, 0.07, 0.09, -0.03, -0.81),
        (0.03, -0.03, -0.03, -0.03, 0.05, 0.01, -0.11, -0.27),
        (-0.01, -0.01, -0.01, -0.01, 0.03, 0.07, -0.01, -0.05, -0.57),
    ),
}
"""By step, the weights of all earlier estimates, oldest first; this step's own has the rest of 1.

The published 7 steps have -1.5e-8, a rounding error, where there is a 0 here.
"""

STEPS = tuple(DELTAS)


def offers_ns(architecture: str, schedule: NoiseSchedule) -> bool:
    """Whether it was searched for such a model, of any resolution and number of classes."""
    return architecture == ARCHITECTURE and schedule == SCHEDULE


def fractional_timesteps() -> tuple[float, ...]:
    """All timesteps of its tables that are not whole, ascending."""
    every = {t for steps in STEPS for t in _timesteps(steps) if not t.is_integer()}
    return tuple(sorted(every))


@functools.cache
def ns_table(num_sampling_steps: int) -> SamplerTable:
    """The table of one of STEPS.

    With alpha and sigma of the noise at time t, lambda = alpha / sigma and a prime for the next
    time, equation 19 is

        x' = sigma' / sigma x + sigma' (lambda' - lambda) sum_{j <= i} w_ij x0_j

    with w_ii = 1 - sum_{j < i} w_ij: the exact solution of the diffusion ODE, x / sigma being the
    integral of x0 over lambda, with the weighted sum in the place of x0. With
    g = sigma' (lambda' - lambda) = alpha' - alpha sigma' / sigma, the linear form of
    `model.sampling.samplers` has a = sigma' / sigma, b = g w_ii, c = g w_i,i-1, and the weights
    g w_ij of the estimates before those.

    alpha and sigma are those with which it was searched, of the continuous variance-preserving
    process with beta(t) = 0.1 + 19.9 t, whose discretisation the linear schedule is: log alpha_bar
    differs by less than 1 % between the two.

    Raises:
        ValueError: there is no such table.
    """
    if num_sampling_steps not in DELTAS:
        raise ValueError(f"no table for {num_sampling_steps} steps")
    timesteps = _timesteps(num_sampling_steps)
    times = np.maximum([t / SCHEDULE.num_train_timesteps for t in timesteps], LAST_TIME)
    bars = np.exp([-_integral_of_beta(t) for t in (*times, LAST_TIME)])
    alpha, sigma = np.sqrt(bars), np.sqrt(1 - bars)
    a = sigma[1:] / sigma[:-1]
    g = alpha[1:] - alpha[:-1] * a
    coefficients = np.zeros((num_sampling_steps, len(COLUMNS)))
    past = np.zeros((num_sampling_steps, LOOKBACK))
    for i, weights in enumerate(WEIGHTS[num_sampling_steps]):
        *earlier, before = weights or (0.0,)
        values = {
            "x0_x": 1 / alpha[i],
            "x0_eps": -sigma[i] / alpha[i],
            "a": a[i],
            "b": g[i] * (1 - math.fsum(weights)),
            "c": g[i] * before,
        }
        coefficients[i] = [values.get(name, 0.0) for name in COLUMNS]
        past[i, : len(earlier)] = g[i] * np.array(earlier)
    return SamplerTable(*(torch.tensor(each).float() for each in (timesteps, coefficients, past)))


def _timesteps(num_sampling_steps: int) -> list[float]:
    """Multiples of a tenth, as times have four decimals."""
    tenths = [round(1e4 * delta) for delta in DELTAS[num_sampling_steps]]
    first = round(1e4 * FIRST_TIME)
    return [(first - gone) / 10 for gone in itertools.accumulate(tenths[:-1], initial=0)]


def _integral_of_beta(t: float) -> float:
    """From 0 to t; alpha_bar(t) is exp of its negative."""
    return BETA_MIN * t + 0.5 * (BETA_MAX - BETA_MIN) * t**2
