"""The training loss of improved diffusion: noise error plus variational bound.

Also which timesteps a batch trains, and how much the noise error weighs at each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from model.sampling.samplers import COLUMNS, ddpm_table
from model.sampling.schedule import NoiseSchedule

MAX_SNR = 5.0
ALL_TIMESTEPS, SHAPING_TIMESTEPS = (0, 1000), (150, 700)
"""The second range is where a picture takes shape, between nearly clean and nearly pure noise
(alpha_bar 0.79 to 0.007)."""


def training_loss(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    schedule: NoiseSchedule,
    x_start: Tensor,
    t: Tensor,
    y: Tensor,
    noise: Tensor,
) -> dict[str, Tensor]:
    """Improved diffusion's hybrid loss (Nichol & Dhariwal 2021, equation 16), per image (N,).

    ``"mse"`` is the error of the predicted noise; ``"vb"`` is the variational bound in bits per
    dimension, which trains only the variance channels and is absent for a model without them.

    Args:
        model: takes (x, t, y); returns (N, C, S, S), or (N, 2 C, S, S) with learned variance.
        x_start: clean latents (N, C, S, S).
        t: whole timesteps (N,).
        y: class labels (N,).
        noise: standard normal, shaped as ``x_start``.
    """
    signal, deviation = _noising(schedule).to(t.device)[:, t, None, None, None]
    x = signal * x_start + deviation * noise
    output = model(x, t, y)
    channels = x_start.shape[1]
    eps = output[:, :channels]
    losses = {"mse": (noise - eps).pow(2).mean((1, 2, 3))}
    if output.shape[1] > channels:
        frozen = torch.cat([eps.detach(), output[:, channels:]], dim=1)
        losses["vb"] = _variational_bound(schedule, x_start, x, t, frozen)
    return losses | {"loss": sum(losses.values(), torch.zeros_like(losses["mse"]))}


def _variational_bound(
    schedule: NoiseSchedule, x_start: Tensor, x: Tensor, t: Tensor, output: Tensor
) -> Tensor:
    """KL divergence of the model's posterior from the true one; at t = 0 the decoder's NLL."""
    rows = _posterior_rows(schedule).to(t.device)[t]
    x0_x, x0_eps, a, b, _, _, log_var_min, log_var_max = rows[:, :, None, None, None].unbind(1)
    eps, variance = output.chunk(2, dim=1)
    true_mean = a * x + b * x_start
    mean = a * x + b * (x0_x * x + x0_eps * eps)
    log_var = log_var_min + (variance + 1) / 2 * (log_var_max - log_var_min)
    log_ratio = log_var_min - log_var
    distance = (true_mean - mean).pow(2) * (-log_var).exp()
    kl = 0.5 * (log_ratio.exp() - log_ratio - 1 + distance)
    nll = -_discretized_log_likelihood(x_start, mean, 0.5 * log_var)
    nats = torch.where((t == 0).view(-1, 1, 1, 1), nll, kl)
    return nats.mean((1, 2, 3)) / math.log(2.0)


def min_snr_weights(schedule: NoiseSchedule) -> Tensor:
    """min(SNR, 5) / SNR by timestep, (num_train_timesteps,): nearly clean latents weigh less.

    Hang et al. 2023, "Efficient diffusion training via min-SNR weighting strategy", for a network
    that predicts noise.
    """
    alpha_bar = torch.from_numpy(schedule.alpha_bar)
    return (MAX_SNR * (1 - alpha_bar) / alpha_bar).clamp(max=1.0).float()


def sample_timesteps(batch_size: int, generator: torch.Generator) -> Tensor:
    """Timesteps (B,): every other one from ALL_TIMESTEPS, the rest from SHAPING_TIMESTEPS.

    Both halves are evenly spaced from one random offset, which has the mean of independent draws
    and less variance (Kingma et al. 2021, "Variational diffusion models").
    """
    numbers = torch.arange(batch_size, device=generator.device)
    offset = torch.rand(1, generator=generator, device=generator.device)
    places = (numbers / batch_size + offset) % 1
    whole, shaping = (
        low + places * (high - low) for low, high in (ALL_TIMESTEPS, SHAPING_TIMESTEPS)
    )
    timesteps = torch.where(numbers % 2 == 0, whole, shaping)
    return timesteps.long().clamp(max=ALL_TIMESTEPS[1] - 1)


@functools.cache
def _noising(schedule: NoiseSchedule) -> Tensor:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) by timestep, (2, num_train_timesteps)."""
    alpha_bar = schedule.alpha_bar
    return torch.from_numpy(np.sqrt([alpha_bar, 1 - alpha_bar])).float()


@functools.cache
def _posterior_rows(schedule: NoiseSchedule) -> Tensor:
    """The full DDPM table by timestep; at t = 0 the posterior variance of t = 1 is the lower bound."""
    table = ddpm_table(schedule, range(schedule.num_train_timesteps - 1, -1, -1))
    rows = table.coefficients.flip(0).clone()
    low, high = COLUMNS.index("log_var_min"), COLUMNS.index("log_var_max")
    rows[0, low], rows[0, high] = rows[1, low], math.log(schedule.beta_start)
    return rows


def _discretized_log_likelihood(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """log P(x) under a Gaussian integrated over bins of 1/255 (Ho et al. 2020, equation 13)."""
    inverse = (-log_deviation).exp()
    above = _normal_cdf(inverse * (x - mean + 1 / 255))
    below = _normal_cdf(inverse * (x - mean - 1 / 255))
    inside = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return inside.clamp(min=1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2.0)))
