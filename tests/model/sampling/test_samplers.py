"""The samplers against diffusers' schedulers and the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast, get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from model.sampling.parameters import SamplerName
from model.sampling.samplers import (
    COLUMNS,
    SAMPLERS,
    SamplerTable,
    TableCache,
    advance,
    ddim_table,
    respaced_timesteps,
    sampler_table,
)
from model.sampling.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule()
ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
STEPS = [1, 2, 10, 50, 250, 1000]
TOLERANCE = 1e-4  # largest error over largest value
SHAPE = (2, 4, 6, 6)

UNDER_NUMPY_2 = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""diffusers' DPM-Solver converts torch tensors to numpy in the old way."""

Step = Callable[[int, Tensor, Tensor, int], Tensor]
"""A reference step: (step, latents, model output, seed of the noise) -> the next latents."""


def normal(seed: int, channels: int = SHAPE[1]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE[0], channels, *SHAPE[2:], generator=generator)


def column(table: SamplerTable, name: str) -> Tensor:
    return table.coefficients[:, COLUMNS.index(name)]


def largest_error(table: SamplerTable, peer: Step, *, variance_channels: bool = False) -> float:
    """Over all steps; each side continues from its own latents, with the same outputs and noise.

    The last step's variance channels are -1 (least variance): diffusers' DDPM adds noise there
    unless the last timestep is 0, the official code never does.
    """
    x = x_peer = normal(0)
    x0 = torch.zeros_like(x)
    worst = 0.0
    for step, coefficients in enumerate(table.coefficients):
        output = normal(2 * step + 1, 8 if variance_channels else 4)
        output[:, 4:] = -1 if step == len(table) - 1 else output[:, 4:].tanh()
        noise_seed = 2 * step + 2
        x, x0 = advance(x, x0, output, normal(noise_seed), coefficients.expand(len(x), -1))
        x_peer = peer(step, x_peer, output, noise_seed)
        worst = max(worst, ((x - x_peer).abs().max() / x_peer.abs().max()).item())
    return worst


def ddpm_peer(timesteps: Sequence[int], variance_type: str) -> Step:
    scheduler = DDPMScheduler(clip_sample=False, variance_type=variance_type)
    scheduler.set_timesteps(timesteps=list(timesteps))

    def step(index: int, x: Tensor, output: Tensor, noise_seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(noise_seed)
        answer = scheduler.step(output, scheduler.timesteps[index], x, generator=generator)
        return torch.as_tensor(answer.prev_sample)

    return step


@pytest.mark.parametrize("variance_type", ["learned_range", "fixed_small"])
@pytest.mark.parametrize("steps", STEPS)
def test_ddpm_equals_diffusers(steps: int, variance_type: str) -> None:
    table = sampler_table(SCHEDULE, "ddpm", steps)
    peer = ddpm_peer(respaced_timesteps(SCHEDULE, steps), variance_type)
    learned = variance_type == "learned_range"
    assert largest_error(table, peer, variance_channels=learned) < TOLERANCE


@pytest.mark.parametrize("timestep_spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", STEPS)
def test_ddim_equals_diffusers(steps: int, eta: float, timestep_spacing: str) -> None:
    """At diffusers' own spacings: it computes the next timestep from the stride, not from its list."""
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing=timestep_spacing)
    scheduler.set_timesteps(steps)

    def peer(index: int, x: Tensor, output: Tensor, noise_seed: int) -> Tensor:
        noise = normal(noise_seed) if eta > 0 else None
        timestep = scheduler.timesteps[index]
        answer = scheduler.step(output[:, :4], timestep, x, eta=eta, variance_noise=noise)
        return torch.as_tensor(answer.prev_sample)

    table = ddim_table(SCHEDULE, scheduler.timesteps.tolist(), eta)
    assert largest_error(table, peer) < TOLERANCE


@UNDER_NUMPY_2
@pytest.mark.parametrize("steps", STEPS)
def test_dpmpp_2m_equals_diffusers(steps: int) -> None:
    """At 1000 steps with our timesteps: diffusers' own repeat one there and end in NaN."""
    scheduler = DPMSolverMultistepScheduler(final_sigmas_type="zero")
    if steps == 1000:
        scheduler.set_timesteps(timesteps=list(range(999, -1, -1)))
    else:
        scheduler.set_timesteps(steps)

    def peer(index: int, x: Tensor, output: Tensor, noise_seed: int) -> Tensor:
        answer = scheduler.step(output[:, :4], scheduler.timesteps[index], x)
        return torch.as_tensor(answer.prev_sample)

    table = sampler_table(SCHEDULE, "dpmpp_2m", steps)
    assert torch.equal(table.timesteps.long(), scheduler.timesteps)
    assert largest_error(table, peer) < TOLERANCE


@UNDER_NUMPY_2
def test_dpmpp_2m_takes_diffusers_timesteps_at_every_step_count() -> None:
    scheduler = DPMSolverMultistepScheduler(final_sigmas_type="zero")
    for steps in range(1, 1000):
        scheduler.set_timesteps(steps)
        ours = sampler_table(SCHEDULE, "dpmpp_2m", steps).timesteps
        assert torch.equal(ours.long(), scheduler.timesteps), steps


def bars(table: SamplerTable, index: int) -> tuple[float, float]:
    """alpha_bar at the timesteps of this step and the next."""
    places = [int(timestep) for timestep in table.timesteps[index : index + 2]]
    here = float(ALPHA_BAR[places[0]])
    return here, float(ALPHA_BAR[places[1]]) if len(places) > 1 else 1.0


def ddpm_formula(table: SamplerTable) -> Step:
    """Ho et al. 2020, algorithm 2, with equation 15 of Nichol & Dhariwal 2021 for the variance."""

    def step(index: int, x: Tensor, output: Tensor, noise_seed: int) -> Tensor:
        here, after = bars(table, index)
        alpha, (eps, variance) = here / after, output.double().chunk(2, dim=1)
        mean = (x - (1 - alpha) / math.sqrt(1 - here) * eps) / math.sqrt(alpha)
        if index == len(table) - 1:
            return mean
        smallest = math.log((1 - after) / (1 - here) * (1 - alpha))
        share = (variance + 1) / 2
        log_variance = share * math.log(1 - alpha) + (1 - share) * smallest
        return mean + (log_variance / 2).exp() * normal(noise_seed)

    return step


def ddim_formula(table: SamplerTable, eta: float) -> Step:
    """Song et al. 2021, equations 12 and 16."""

    def step(index: int, x: Tensor, output: Tensor, noise_seed: int) -> Tensor:
        here, after = bars(table, index)
        eps = output.double()[:, :4]
        x0 = (x - math.sqrt(1 - here) * eps) / math.sqrt(here)
        sigma = eta * math.sqrt((1 - after) / (1 - here)) * math.sqrt(1 - here / after)
        direction = math.sqrt(1 - after - sigma**2) * eps
        return math.sqrt(after) * x0 + direction + sigma * normal(noise_seed)

    return step


def dpmpp_2m_formula(table: SamplerTable) -> Step:
    """Lu et al. 2022 (arXiv 2211.01095), algorithm 2, with first-order ends."""
    estimates: list[Tensor] = []

    def log_snr(bar: float) -> float:
        return math.log(bar / (1 - bar)) / 2

    def step(index: int, x: Tensor, output: Tensor, noise_seed: int) -> Tensor:
        here, after = bars(table, index)
        x0 = (x - math.sqrt(1 - here) * output.double()[:, :4]) / math.sqrt(here)
        estimates.append(x0)
        if index == len(table) - 1:
            return x0
        h, d = log_snr(after) - log_snr(here), x0
        if index > 0:
            r = (log_snr(here) - log_snr(bars(table, index - 1)[0])) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * estimates[-2]
        shrink = math.sqrt((1 - after) / (1 - here))
        return shrink * x - math.sqrt(after) * (math.exp(-h) - 1) * d

    return step


@pytest.mark.parametrize("steps", [*STEPS, 7, 333])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "ddim eta 0.5", "ddim eta 1", "dpmpp_2m"])
def test_sampler_is_the_formula(sampler: str, steps: int) -> None:
    name, _, eta = sampler.partition(" eta ")
    table = sampler_table(SCHEDULE, cast("SamplerName", name), steps)
    if eta:
        table = ddim_table(SCHEDULE, respaced_timesteps(SCHEDULE, steps), float(eta))
    formula = {"ddpm": ddpm_formula, "dpmpp_2m": dpmpp_2m_formula}.get(name)
    peer = formula(table) if formula else ddim_formula(table, float(eta or 0))
    assert largest_error(table, peer, variance_channels=True) < TOLERANCE


def test_schedule_is_the_linear_one() -> None:
    np.testing.assert_allclose(SCHEDULE.alpha_bar, ALPHA_BAR, rtol=1e-12)
    assert SCHEDULE.alpha_bar[0] == pytest.approx(0.9999)
    assert SCHEDULE.alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def official_spacing(steps: int) -> list[int]:
    """space_timesteps of improved diffusion for one section of 1000, as a running sum."""
    place, stride, taken = 0.0, 999 / (steps - 1), set()
    for _ in range(steps):
        taken.add(round(place))
        place += stride
    return sorted(taken, reverse=True)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_respacing_is_the_official_one(sampler: SamplerName) -> None:
    for steps in range(2, 1001):
        timesteps = respaced_timesteps(SCHEDULE, steps)
        assert timesteps == official_spacing(steps), steps
        assert sampler_table(SCHEDULE, sampler, steps).timesteps.tolist() == timesteps


def test_a_single_step_starts_from_pure_noise() -> None:
    """The official code would start at timestep 0, which leaves the noise unchanged."""
    for sampler in SAMPLERS:
        assert sampler_table(SCHEDULE, sampler, 1).timesteps.tolist() == [999]


def test_every_sampler_name_has_a_table_builder() -> None:
    assert set(get_args(SamplerName)) == {*SAMPLERS, "fitted", "ns"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_table_is_finite_and_ends_at_the_estimate(sampler: SamplerName) -> None:
    for steps in range(1, 1001):
        table = sampler_table(SCHEDULE, sampler, steps)
        assert table.coefficients.shape == (steps, len(COLUMNS)), steps
        assert table.coefficients.isfinite().all(), steps
        assert table.timesteps[0] == 999, steps
        assert (table.timesteps.diff() < 0).all(), steps
        last = {name: column(table, name)[-1].item() for name in ("a", "b", "c", "noise")}
        assert last == pytest.approx({"a": 0, "b": 1, "c": 0, "noise": 0}, abs=1e-6), steps
        assert column(table, "c")[0] == 0, steps


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_ddpm_draws_and_not_at_its_last_step(sampler: SamplerName) -> None:
    table = sampler_table(SCHEDULE, sampler, 10)
    assert [table.draws(step) for step in range(10)] == [sampler == "ddpm"] * 9 + [False]


def test_tables_are_built_once() -> None:
    table = sampler_table(SCHEDULE, "ddim", 20)
    assert sampler_table(NoiseSchedule(), "ddim", 20) is table
    assert len(table) == 20


@pytest.mark.parametrize(
    ("sampler", "steps", "message"),
    [
        ("euler", 10, "must be one of ddim, ddpm, dpmpp_2m"),
        ("ddim", 0, "1 .. 1000"),
        ("ddpm", 1001, "1 .. 1000"),
        ("dpmpp_2m", -1, "1 .. 1000"),
    ],
)
def test_out_of_range_is_refused(sampler: SamplerName, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler_table(SCHEDULE, sampler, steps)


TABLES: dict[str, Callable[[int], SamplerTable]] = {
    "ddpm": lambda steps: sampler_table(SCHEDULE, "ddpm", steps),
    "ddim": lambda steps: sampler_table(SCHEDULE, "ddim", steps),
    "ddim, eta 1": lambda steps: ddim_table(SCHEDULE, respaced_timesteps(SCHEDULE, steps), 1.0),
    "dpmpp_2m": lambda steps: sampler_table(SCHEDULE, "dpmpp_2m", steps),
}


@pytest.mark.parametrize("variance_channels", [True, False])
@pytest.mark.parametrize("side", [8, 5])
def test_a_mixed_batch_equals_its_images_alone(side: int, variance_channels: bool) -> None:
    """Bit for bit, whatever the sampler, step count and step of the other images."""
    rows = torch.stack(
        [
            build(steps).coefficients[int(share * (steps - 1))]
            for build in TABLES.values()
            for steps in (1, 7, 250)
            for share in (0.0, 0.6, 1.0)
        ]
    )
    generator = torch.Generator().manual_seed(0)

    def draw(channels: int) -> Tensor:
        return torch.randn(len(rows), channels, side, side, generator=generator)

    images = (draw(4), draw(4), draw(8 if variance_channels else 4), draw(4), rows)
    together = advance(*images)
    for i in range(len(rows)):
        alone = advance(*(part[i : i + 1] for part in images))
        assert torch.equal(together[0][i], alone[0][0])
        assert torch.equal(together[1][i], alone[1][0])
    assert len(torch.unique(together[0].flatten(1), dim=0)) == len(rows)


def sample_with_oracle(table: SamplerTable, x0: Tensor, first: Tensor) -> list[Tensor]:
    """The latents of every step with a model that knows ``x0``."""
    xs, estimate = [first], torch.zeros_like(x0)
    for step, timestep in enumerate(table.timesteps.long().tolist()):
        bar, x = ALPHA_BAR[timestep], xs[-1]
        eps = ((x.double() - math.sqrt(bar) * x0) / math.sqrt(1 - bar)).float()
        coefficients = table.coefficients[step].expand(len(x), -1)
        x, estimate = advance(x, estimate, eps, normal(step), coefficients)
        torch.testing.assert_close(estimate, x0, rtol=0, atol=1e-3)
        xs.append(x)
    return xs


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("sampler", TABLES)
def test_a_perfect_model_gives_its_picture(sampler: SamplerName, steps: int) -> None:
    x0 = normal(5)
    xs = sample_with_oracle(TABLES[sampler](steps), x0, first=normal(6))
    torch.testing.assert_close(xs[-1], x0, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_deterministic_samplers_walk_the_straight_path(sampler: SamplerName) -> None:
    """Between the picture and one noise, at each of their timesteps."""
    table, x0, eps = TABLES[sampler](50), normal(5), normal(6)
    path = [
        (math.sqrt(ALPHA_BAR[t]) * x0 + math.sqrt(1 - ALPHA_BAR[t]) * eps)
        for t in table.timesteps.long().tolist()
    ]
    for ours, expected in zip(sample_with_oracle(table, x0, first=path[0]), [*path, x0]):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim, eta 1"])
def test_drawn_noise_keeps_the_datas_distribution(sampler: SamplerName) -> None:
    """For data N(2, 0.5 ** 2) and its exact denoiser, 250 steps end in that distribution."""
    table = TABLES[sampler](250)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 100, 100, generator=generator)
    estimate = torch.zeros_like(x)
    for step, timestep in enumerate(table.timesteps.long().tolist()):
        bar = ALPHA_BAR[timestep]
        eps = math.sqrt(1 - bar) * (x - math.sqrt(bar) * 2) / (bar * 0.25 + 1 - bar)
        noise = torch.randn(x.shape, generator=generator)
        x, estimate = advance(x, estimate, eps, noise, table.coefficients[step : step + 1])
    assert x.mean().item() == pytest.approx(2, abs=0.02)
    assert x.std().item() == pytest.approx(0.5, rel=0.04)


@pytest.mark.gpu
def test_a_gpu_takes_the_same_steps() -> None:
    rows = torch.cat([build(50).coefficients[[0, 20, 49]] for build in TABLES.values()])
    x, x0, output, noise = (torch.randn(len(rows), channels, 8, 8) for channels in (4, 4, 8, 4))
    here, _ = advance(x, x0, output, noise, rows)
    there, _ = advance(x.cuda(), x0.cuda(), output.cuda(), noise.cuda(), rows.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


def test_the_cache_keeps_as_many_tables_as_have_a_number_of_steps() -> None:
    cache = TableCache(max_steps=100)
    first = cache.get(SCHEDULE, "ddim", 40)
    assert cache.get(SCHEDULE, "ddim", 40) is first
    for steps in range(1, 1000, 7):
        assert len(cache.get(SCHEDULE, "ddpm", steps)) == steps
        assert cache.steps <= max(100, steps)
        assert cache.get(SCHEDULE, "ddpm", steps) is cache.get(SCHEDULE, "ddpm", steps)
    assert cache.get(SCHEDULE, "ddim", 40) is not first


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache = TableCache(max_steps=100)
    old, kept = cache.get(SCHEDULE, "ddim", 50), cache.get(SCHEDULE, "ddim", 40)
    assert cache.get(SCHEDULE, "ddim", 50) is old
    cache.get(SCHEDULE, "ddim", 45)
    assert cache.get(SCHEDULE, "ddim", 50) is old
    assert cache.get(SCHEDULE, "ddim", 40) is not kept


@pytest.mark.parametrize("timesteps", [2, 3, 4, 7, 20])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_count_of_a_short_schedule_has_a_table(
    timesteps: int, sampler: SamplerName
) -> None:
    schedule = NoiseSchedule(timesteps)
    for steps in range(1, timesteps + 1):
        table = sampler_table(schedule, sampler, steps)
        assert len(table) == steps
        assert table.coefficients.isfinite().all()
        assert table.timesteps[0] == timesteps - 1
