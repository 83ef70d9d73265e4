"""The training loss against improved diffusion's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.sampling.schedule import NoiseSchedule
from model.train.loss import training_loss

SCHEDULE = NoiseSchedule()
BETA = np.linspace(1e-4, 0.02, 1000)
ALPHA_BAR = np.cumprod(1 - BETA)


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean latents up to 1.2 (beyond the outermost bins), timesteps, labels, noise."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.tensor([0, 0, 1, 2, 40, 400, 900, 999])
    x_start = torch.rand(8, 4, 6, 6, generator=generator) * 2.4 - 1.2
    return x_start, t, t % 7, torch.randn(x_start.shape, generator=generator)


def loss_of(output: Tensor) -> dict[str, Tensor]:
    x_start, t, y, noise = batch()
    return training_loss(lambda x, t, y: output, SCHEDULE, x_start, t, y, noise)


def output_near(noise: Tensor, channels: int) -> Tensor:
    """A model's answer: nearly the noise and, where asked for, variance channels around 0."""
    answer = torch.randn(8, channels, 6, 6, generator=torch.Generator().manual_seed(9)) * 0.3
    answer[:, :4] += noise
    return answer


def variational_bound(x_start: Tensor, t: int, noise: Tensor, output: Tensor) -> float:
    """One image's term of improved diffusion's bound, in bits a dimension, in float64."""
    x_start, noise = x_start.double(), noise.double()
    eps, variance = output.double().chunk(2)
    bar, before, beta = ALPHA_BAR[t], ALPHA_BAR[t - 1] if t else 1.0, BETA[t]
    x = math.sqrt(bar) * x_start + math.sqrt(1 - bar) * noise
    predicted = (x - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
    of_x0, of_x = beta * math.sqrt(before), (1 - before) * math.sqrt(1 - beta)
    true_mean, mean = ((of_x0 * start + of_x * x) / (1 - bar) for start in (x_start, predicted))
    clipped = max(t, 1)  # the posterior at t = 0 has no width: the one of t = 1 stands in
    least = BETA[clipped] * (1 - ALPHA_BAR[clipped - 1]) / (1 - ALPHA_BAR[clipped])
    log_variance = (variance + 1) / 2 * math.log(beta) + (1 - variance) / 2 * math.log(least)
    if t > 0:
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(true_mean, math.sqrt(least)),
            torch.distributions.Normal(mean, (log_variance / 2).exp()),
        )
        return float(kl.mean() / math.log(2))
    deviation = (log_variance / 2).exp()
    above, below = (
        torch.special.ndtr((x_start + edge - mean) / deviation) for edge in (1 / 255, -1 / 255)
    )
    above[x_start > 0.999], below[x_start < -0.999] = 1.0, 0.0
    return float(-(above - below).clamp(min=1e-12).log().mean() / math.log(2))


def test_mse_is_the_error_of_the_noise() -> None:
    noise = batch()[3]
    for channels in (4, 8):
        output = output_near(noise, channels)
        expected = ((output[:, :4] - noise) ** 2).flatten(1).mean(1)
        torch.testing.assert_close(loss_of(output)["mse"], expected)


def test_variational_term_is_improved_diffusions() -> None:
    x_start, t, _, noise = batch()
    output = output_near(noise, 8)
    images = zip(x_start, t.tolist(), noise, output)
    expected = torch.tensor([variational_bound(*image) for image in images])
    losses = loss_of(output)
    torch.testing.assert_close(losses["vb"], expected, rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(losses["loss"], losses["mse"] + losses["vb"])


def test_variational_term_is_absent_without_variance_channels() -> None:
    losses = loss_of(output_near(batch()[3], 4))
    assert set(losses) == {"mse", "loss"}
    assert torch.equal(losses["mse"], losses["loss"])


def test_variational_term_vanishes_for_a_perfect_model() -> None:
    noise = batch()[3]
    losses = loss_of(torch.cat([noise, torch.full_like(noise, -1)], dim=1))
    assert losses["mse"].abs().max() == 0
    torch.testing.assert_close(losses["vb"][2:], torch.zeros(6), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("term", "trains_noise"), [("mse", True), ("vb", False)])
def test_each_term_trains_its_own_channels(term: str, trains_noise: bool) -> None:
    output = output_near(batch()[3], 8).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(output)[term].sum(), output)
    assert gradient.isfinite().all()
    touched, untouched = gradient.chunk(2, dim=1)
    if not trains_noise:
        touched, untouched = untouched, touched
    assert (touched != 0).flatten(1).any(1).all()
    assert torch.count_nonzero(untouched) == 0


def test_model_is_given_the_noised_latents() -> None:
    x_start, t, y, noise = batch()
    given: list[tuple[Tensor, Tensor, Tensor]] = []

    def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        given.append((x, t, y))
        return noise

    training_loss(model, SCHEDULE, x_start, t, y, noise)
    bar = torch.from_numpy(ALPHA_BAR)[t][:, None, None, None]
    expected = bar.sqrt() * x_start + (1 - bar).sqrt() * noise
    torch.testing.assert_close(given[0][0].double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(given[0][1], t)
    assert torch.equal(given[0][2], y)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_loss() -> None:
    output = output_near(batch()[3], 8)
    x, t, y, noise = (part.cuda() for part in batch())
    losses = training_loss(lambda x, t, y: output.cuda(), SCHEDULE, x, t, y, noise)
    torch.testing.assert_close(losses["loss"].cpu(), loss_of(output)["loss"], rtol=1e-3, atol=1e-3)
