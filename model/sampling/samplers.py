"""Samplers: DDPM, DDIM and DPM-Solver++(2M) as tables of coefficients.

Every sampler's i-th step is a linear form

    x_{i+1} = a_i x_i + b_i x0_i + c_i x0_{i-1} + d_i noise

in the latent, the model's estimate of the clean latent, the previous estimate and fresh noise. So a
sampler is a table with one row of coefficients per step, and images with different samplers, step
counts and step indices advance together in `advance`, each with its own row. `model.sampling.ns` adds
a weighted sum of the estimates before the previous one.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.sampling.parameters import SamplerName
from model.sampling.schedule import NoiseSchedule

COLUMNS = ("x0_x", "x0_eps", "a", "b", "c", "noise", "log_var_min", "log_var_max")

LOOKBACK = 8
"""How many estimates before the previous one a step may use: its image's first ones."""

NO_PAST = (-1.0, *[0.0] * LOOKBACK)
"""`SamplerTable.pasts` of a step that neither uses such estimates nor leaves one for later."""


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """One sampler at one step count.

    ``timesteps`` is float32 (S,), from noise to picture; ``coefficients`` is float32
    (S, len(COLUMNS)). The model's answer eps gives x0 = x0_x * x + x0_eps * eps. The noise is
    multiplied by ``noise * exp(log_var / 2)``, where the model's variance channels interpolate
    log_var between log_var_min and log_var_max; for a fixed deviation both are 0.

    ``past`` is float32 (S, LOOKBACK), for samplers that look further back than one step: the weights
    of the image's estimates from the first on, with 0 for the previous one, which ``c`` has.
    """

    timesteps: Tensor
    coefficients: Tensor
    past: Tensor | None = None

    def __len__(self) -> int:
        return len(self.timesteps)

    @functools.cached_property
    def steps(self) -> list[tuple[float, ...]]:
        """Each step's timestep and coefficients, as Python numbers."""
        steps = torch.cat([self.timesteps[:, None], self.coefficients], dim=1).tolist()
        return [tuple(step) for step in steps]

    @functools.cached_property
    def pasts(self) -> list[tuple[float, ...]]:
        """Where each step's estimate is kept for later steps, or -1, and then the step's ``past``."""
        if self.past is None:
            return [NO_PAST] * len(self)
        used = [
            float(i) if each else -1.0 for i, each in enumerate((self.past != 0).any(0).tolist())
        ]
        places = [*used, *[-1.0] * len(self)]
        return [(place, *weights) for place, weights in zip(places, self.past.tolist())]

    def draws(self, step: int) -> bool:
        """Whether the step adds fresh noise."""
        return self.steps[step][1 + COLUMNS.index("noise")] != 0


def advance(
    x: Tensor, x0_before: Tensor, output: Tensor, noise: Tensor, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """One denoising step of N images, each with its own row of a table.

    Args:
        x: latents (N, C, S, S).
        x0_before: the previous step's estimates, (N, C, S, S); at the first step anything finite.
        output: the model's answer: the noise (N, C, S, S), or with variance channels (N, 2 C, S, S).
        noise: standard normal (N, C, S, S); anything finite for steps that add none.
        coefficients: (N, len(COLUMNS)).

    Returns:
        The next latents and this step's estimates of the clean latents.
    """
    rows = coefficients[:, :, None, None, None].unbind(1)  # 8 of (N, 1, 1, 1)
    x0_x, x0_eps, a, b, c, scale, log_var_min, log_var_max = rows
    channels = x.shape[1]
    x0 = x0_x * x + x0_eps * output[:, :channels]
    log_var = log_var_min
    if output.shape[1] > channels:
        fraction = (output[:, channels:] + 1) / 2
        log_var = log_var_min + fraction * (log_var_max - log_var_min)
    # In fp64: fp32's exp differs in its last bit between the ends and the middle of a tensor.
    deviation = scale * torch.exp(0.5 * log_var.double()).float()
    return a * x + b * x0 + c * x0_before + deviation * noise, x0


def respaced_timesteps(schedule: NoiseSchedule, num_sampling_steps: int) -> list[int]:
    """The official respacing (space_timesteps with one section), from noise to picture.

    The strides are accumulated rather than multiplied, to round like the official code. A single
    step starts at the noisiest timestep; the official code would start at timestep 0, which leaves
    the noise unchanged.
    """
    last = schedule.num_train_timesteps - 1
    if num_sampling_steps == 1:
        return [last]
    strides = itertools.repeat(last / (num_sampling_steps - 1), num_sampling_steps - 1)
    return [round(t) for t in itertools.accumulate(strides, initial=0.0)][::-1]


def ddpm_table(schedule: NoiseSchedule, timesteps: Sequence[int]) -> SamplerTable:
    """Ancestral sampling: the posterior of Ho et al. 2020, equations 6 and 7, respaced.

    Without variance channels the deviation is that of the posterior, log_var_min.
    """
    here, after = _alpha_bars(schedule, timesteps)
    beta = 1 - here / after
    posterior = beta * (1 - after) / (1 - here)
    columns = {
        "a": (1 - after) * np.sqrt(here / after) / (1 - here),
        "b": beta * np.sqrt(after) / (1 - here),
        "noise": np.append(np.ones(len(here) - 1), 0.0),  # the last step adds no noise
        "log_var_min": np.append(np.log(posterior[:-1]), 0.0),
        "log_var_max": np.append(np.log(beta[:-1]), 0.0),
    }
    return _table(timesteps, here, columns)


def ddim_table(schedule: NoiseSchedule, timesteps: Sequence[int], eta: float = 0.0) -> SamplerTable:
    """Song et al. 2021, equation 12; eta 0 is deterministic, eta 1 has DDPM's posterior variance."""
    here, after = _alpha_bars(schedule, timesteps)
    sigma = eta * np.sqrt((1 - after) / (1 - here) * (1 - here / after))
    direction = np.sqrt(np.maximum(1 - after - sigma**2, 0.0))  # multiplies eps
    a = direction / np.sqrt(1 - here)
    b = np.sqrt(after) - a * np.sqrt(here)
    return _table(timesteps, here, {"a": a, "b": b, "noise": sigma})


def dpmpp_2m_table(schedule: NoiseSchedule, timesteps: Sequence[int]) -> SamplerTable:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2); the first and last step are first-order."""
    here, after = _alpha_bars(schedule, timesteps)
    log_snr = 0.5 * np.log(here / (1 - here))
    h = np.diff(log_snr)  # up to the last timestep; the jump from there to x0 is infinite
    shrink = np.append(-np.expm1(-h), 1.0)  # 1 - exp(-h)
    towards_x0 = np.sqrt(after) * shrink
    half_inverse_ratio = np.zeros(len(here))  # 1 / (2 r) with r = h_{i-1} / h_i
    half_inverse_ratio[1:-1] = h[1:] / (2 * h[:-1])
    columns = {
        "a": np.sqrt((1 - after) / (1 - here)),
        "b": towards_x0 * (1 + half_inverse_ratio),
        "c": -towards_x0 * half_inverse_ratio,
    }
    return _table(timesteps, here, columns)


def two_estimate_table(
    schedule: NoiseSchedule,
    timesteps: Sequence[int],
    *,
    a: Sequence[float],
    b: Sequence[float],
    c: Sequence[float],
) -> SamplerTable:
    """A deterministic sampler by its coefficients, as `model.train.solver` fits them.

    Raises:
        ValueError: the timesteps do not fall from the noisiest one, the columns have different
            lengths, or the first step uses an estimate before the first.
    """
    count = len(timesteps)
    if not len(a) == len(b) == len(c) == count > 0:
        raise ValueError("timesteps, a, b and c must have one number for each step")
    last = schedule.num_train_timesteps - 1
    falls = all(before > after for before, after in itertools.pairwise(timesteps))
    if timesteps[0] != last or timesteps[-1] < 0 or not falls:
        raise ValueError(f"timesteps must fall from {last}, and not below 0")
    if c[0] != 0:
        raise ValueError("c must be 0 at the first step, which has no estimate before it")
    here, _ = _alpha_bars(schedule, timesteps)
    return _table(timesteps, here, {"a": np.array(a), "b": np.array(b), "c": np.array(c)})


def _alpha_bars(schedule: NoiseSchedule, timesteps: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """alpha_bar at each timestep and at the next one; 1 (the clean latent) after the last."""
    here = schedule.alpha_bar[np.asarray(timesteps)]
    return here, np.append(here[1:], 1.0)


def _table(
    timesteps: Sequence[int], here: np.ndarray, columns: dict[str, np.ndarray]
) -> SamplerTable:
    zeros = np.zeros(len(here))
    whole = {"x0_x": np.sqrt(1 / here), "x0_eps": -np.sqrt(1 / here - 1)} | columns
    stacked = np.stack([whole.get(name, zeros) for name in COLUMNS], axis=1)
    return SamplerTable(
        torch.tensor(timesteps, dtype=torch.float32), torch.from_numpy(stacked).float()
    )


def _ddpm(schedule: NoiseSchedule, num_sampling_steps: int) -> SamplerTable:
    return ddpm_table(schedule, respaced_timesteps(schedule, num_sampling_steps))


def _ddim(schedule: NoiseSchedule, num_sampling_steps: int) -> SamplerTable:
    return ddim_table(schedule, respaced_timesteps(schedule, num_sampling_steps))


def _dpmpp_2m(schedule: NoiseSchedule, num_sampling_steps: int) -> SamplerTable:
    """With the timesteps of diffusers' "linspace", whose last one is a step short of the picture."""
    last = schedule.num_train_timesteps - 1
    if num_sampling_steps > last:
        return dpmpp_2m_table(schedule, range(last, -1, -1))
    points = np.linspace(0, last, num_sampling_steps + 1).round().astype(int)
    return dpmpp_2m_table(schedule, points[:0:-1].tolist())


SAMPLERS: dict[SamplerName, Callable[[NoiseSchedule, int], SamplerTable]] = {
    "ddim": _ddim,
    "ddpm": _ddpm,
    "dpmpp_2m": _dpmpp_2m,
}


class TableCache:
    """The tables used last, as many as have ``max_steps`` steps in all; safe to use from any thread.

    A step takes about 0.6 KB: the table's numbers, and the same as Python numbers.
    """

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._tables: OrderedDict[tuple[NoiseSchedule, SamplerName, int], SamplerTable] = (
            OrderedDict()
        )
        self._lock = threading.Lock()
        self.steps = 0

    def get(self, schedule: NoiseSchedule, sampler: SamplerName, steps: int) -> SamplerTable:
        """The table of one of SAMPLERS; built if it is not kept."""
        key = schedule, sampler, steps
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
            else:
                self._tables[key] = SAMPLERS[sampler](schedule, steps)
                self.steps += steps
                self._shrink()
            return self._tables[key]

    def _shrink(self) -> None:
        """Forget the tables that were used longest ago, but never the last one."""
        while self.steps > self._max_steps and len(self._tables) > 1:
            _, table = self._tables.popitem(last=False)
            self.steps -= len(table)


_CACHE = TableCache(max_steps=50_000)


def sampler_table(
    schedule: NoiseSchedule, sampler: SamplerName, num_sampling_steps: int
) -> SamplerTable:
    """The table of one of SAMPLERS for 1 .. num_train_timesteps steps; cached.

    Raises:
        ValueError: the sampler is unknown or the step count is out of range.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}, must be one of {', '.join(SAMPLERS)}")
    if not 1 <= num_sampling_steps <= schedule.num_train_timesteps:
        raise ValueError(f"num_sampling_steps must be 1 .. {schedule.num_train_timesteps}")
    return _CACHE.get(schedule, sampler, num_sampling_steps)
