"""Guidance on a part of the channels, as in the official samples, for each image of a tick."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.networks.dit import DiT
from model.runner.runner import Flight, ModelRunner
from model.sampling.noise import ImageNoise
from model.sampling.parameters import Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from tests.support.services import load_small_runner

ALPHA_BAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


@pytest.fixture(scope="module")
def runner(pipeline_folder: Path) -> ModelRunner:
    return load_small_runner(pipeline_folder, reproducible=True)


def plan(cfg_channels: int | None, cfg_scale: float = 4.0, steps: int = 4) -> Trajectory:
    sampling = Sampling(
        class_label=2,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler="ddim",
        seed=11,
        guidance_interval=(0.0, 1.0),
        cfg_channels=cfg_channels,
    )
    return plan_trajectory(NoiseSchedule(), sampling)


def fly(runner: ModelRunner, *trajectories: Trajectory) -> Tensor:
    flights: list[Flight] = [runner.join(trajectory) for trajectory in trajectories]
    while running := [flight for flight in flights if not flight.done]:
        runner.tick(running)
    latents = runner.latents(flights)
    for flight in flights:
        runner.leave(flight)
    return latents


def official_forward_with_cfg(
    dit: DiT, x: Tensor, t: Tensor, y: Tensor, cfg_scale: float
) -> Tensor:
    """What facebookresearch/DiT computes: the noise's first three channels are guided, and the
    fourth and the variances are each half's own."""
    halves = torch.cat([x[: len(x) // 2]] * 2, dim=0)
    model_out = dit(halves, t, y)
    eps, rest = model_out[:, :3], model_out[:, 3:]
    cond, uncond = torch.split(eps, len(eps) // 2, dim=0)
    half = uncond + cfg_scale * (cond - uncond)
    return torch.cat([torch.cat([half, half], dim=0), rest], dim=1)


@torch.no_grad()
def officially_sampled(dit: DiT, trajectory: Trajectory) -> Tensor:
    """DDIM (Song et al. 2021, equation 12) on the official guidance; the first half is the image."""
    noise = ImageNoise(trajectory.seed, (4, dit.input_size, dit.input_size)).draw()
    x = torch.stack([noise, noise])
    y = torch.tensor([trajectory.class_label, dit.num_classes])
    timesteps = [int(t) for t in trajectory.table.timesteps]
    for t, after in zip(timesteps, [*timesteps[1:], None]):
        here, there = ALPHA_BAR[t], ALPHA_BAR[after] if after is not None else torch.tensor(1.0)
        out = official_forward_with_cfg(
            dit, x, torch.tensor([t, t]), y, trajectory.cfg_scale
        ).double()
        eps = out[:, :4]
        x0 = (x - (1 - here).sqrt() * eps) / here.sqrt()
        x = (there.sqrt() * x0 + (1 - there).sqrt() * eps).float()
    return x[0]


def test_three_channels_are_the_official_guidance(runner: ModelRunner) -> None:
    trajectory = plan(3)
    (ours,) = fly(runner, trajectory)
    expected = officially_sampled(runner.checkpoint.dit, trajectory)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(fly(runner, plan(None))[0], expected, rtol=1e-2, atol=1e-2)


def test_images_with_different_channels_share_a_tick(runner: ModelRunner) -> None:
    planned = [plan(channels) for channels in (None, 1, 2, 3, 4)]
    together = fly(runner, *planned, plan(2, cfg_scale=1.0))
    for trajectory, latent in zip(planned, together):
        assert torch.equal(fly(runner, trajectory)[0], latent)
    assert torch.equal(together[0], together[4])  # all four are all
    assert len({tuple(latent.flatten().tolist()) for latent in together}) == 5


def test_a_channel_that_is_not_guided_does_not_see_the_null_row(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the null row is not finite."""
    network = runner._network
    null = runner.checkpoint.dit.num_classes

    def broken(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        answers = network(x, t, y)
        answers[y == null, 3] = torch.nan
        return answers

    (expected,) = fly(runner, plan(3))
    monkeypatch.setattr(runner._tick, "_network", broken)
    assert torch.equal(fly(runner, plan(3))[0], expected)
    assert bool(fly(runner, plan(4))[0].isnan().any())
