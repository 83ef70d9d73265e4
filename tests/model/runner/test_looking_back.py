"""Images of sampler "ns", which use all their earlier estimates, in the runner and next to others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.runner.build import build_runner
from model.runner.runner import Flight, ModelRunner
from model.sampling.noise import ImageNoise
from model.sampling.parameters import SamplerName, Sampling
from model.sampling.samplers import advance
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.weights.checkpoint import Checkpoint
from tests.support.networks import FunctionNetwork
from tests.support.services import load_small_checkpoint


def plan(sampler: SamplerName, steps: int, seed: int, cfg_scale: float = 1.5) -> Trajectory:
    sampling = Sampling(
        class_label=seed % 5,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=sampler,
        seed=seed,
        guidance_interval=(0.0, 1.0),
    )
    return plan_trajectory(NoiseSchedule(), sampling)


LOOKING_BACK = [plan("ns", 5 + i, seed=i, cfg_scale=(1.0, 1.5)[i % 2]) for i in range(6)]
MIXED = [*LOOKING_BACK, plan("ddpm", 7, 6), plan("dpmpp_2m", 5, 7), plan("ddim", 12, 8)]


@pytest.fixture(scope="module")
def checkpoint(pipeline_folder: Path) -> Checkpoint:
    """A small model that is taken for DiT-XL/2."""
    return replace(load_small_checkpoint(pipeline_folder), architecture="DiT-XL/2")


@pytest.fixture(scope="module")
def runner(checkpoint: Checkpoint) -> ModelRunner:
    """A runner in reproducible mode, whose first history is that of broken images."""
    runner = build_runner(checkpoint, max_rows=24, reproducible=True)
    history(runner).fill_(torch.nan)
    return runner


def history(runner: ModelRunner) -> Tensor:
    kept = runner._tick._buffers.history
    assert kept is not None
    return kept


def fly(runner: ModelRunner, *trajectories: Trajectory) -> Tensor:
    """The final latents of images that start together."""
    flights = [runner.join(trajectory) for trajectory in trajectories]
    while running := [flight for flight in flights if not flight.done]:
        runner.tick(running)
    return finish(runner, flights)


def finish(runner: ModelRunner, flights: list[Flight]) -> Tensor:
    latents = torch.cat([runner.latents([flight]) for flight in flights])
    for flight in flights:
        runner.leave(flight)
    return latents


@torch.no_grad()
def sample_alone(checkpoint: Checkpoint, trajectory: Trajectory) -> Tensor:
    """One image by a loop that keeps every estimate and embeds each timestep anew."""
    dit, table = checkpoint.dit, trajectory.table
    assert table.past is not None
    shape = (dit.in_channels, dit.input_size, dit.input_size)
    x, estimates = ImageNoise(trajectory.seed, shape).draw()[None], [torch.zeros(1, *shape)]
    labels = torch.tensor([trajectory.class_label, dit.num_classes])
    for step, t in enumerate(table.timesteps):
        output = dit.forward_with_cfg(torch.cat([x, x]), t.expand(2), labels, trajectory.cfg_scale)[
            :1
        ]
        row = table.coefficients[step : step + 1]
        x, x0 = advance(x, estimates[-1], output, torch.zeros_like(x), row)
        for weight, estimate in zip(table.past[step], estimates[1:-1]):
            x = x + weight * estimate
        estimates.append(x0)
    return x[0]


@pytest.mark.parametrize("trajectory", LOOKING_BACK)
def test_an_image_is_what_a_plain_loop_makes_of_it(
    runner: ModelRunner, trajectory: Trajectory
) -> None:
    expected = sample_alone(runner.checkpoint, trajectory)
    assert bool(expected.isfinite().all())
    torch.testing.assert_close(fly(runner, trajectory)[0], expected, rtol=1e-4, atol=1e-4)


def test_images_have_the_same_bits_alone_and_among_others(runner: ModelRunner) -> None:
    together = fly(runner, *MIXED)
    for trajectory, latent in zip(MIXED, together):
        assert torch.equal(fly(runner, trajectory)[0], latent)


def test_images_that_do_not_look_back_have_the_bits_of_a_model_without_ns(
    runner: ModelRunner, pipeline_folder: Path
) -> None:
    without = build_runner(load_small_checkpoint(pipeline_folder), max_rows=24, reproducible=True)
    assert without._tick._buffers.history is None
    others = MIXED[len(LOOKING_BACK) :]
    assert torch.equal(fly(without, *others), fly(runner, *MIXED)[-len(others) :])


def test_a_parked_image_keeps_its_history(checkpoint: Checkpoint) -> None:
    runner = build_runner(checkpoint, max_rows=2, reproducible=True)
    planned = [plan("ns", 10, seed) for seed in range(runner.slots + 3)]
    flights = [runner.join(each) for each in planned]
    for _ in range(10):
        for flight in flights:
            runner.tick([flight])
    assert any(flight.parked is not None for flight in flights)
    together = finish(runner, flights)
    for trajectory, latent in zip(planned[:2], together):
        assert torch.equal(fly(runner, trajectory)[0], latent)


def test_an_image_that_is_not_finite_harms_no_other_and_no_later_one(runner: ModelRunner) -> None:
    flights = [runner.join(each) for each in LOOKING_BACK[:3]]
    runner._tick.latents[flights[1].slot].fill_(torch.nan)
    slot = flights[1].slot
    while running := [flight for flight in flights if not flight.done]:
        runner.tick(running)
    first, broken, last = finish(runner, flights)
    assert bool(broken.isnan().all())
    assert bool(history(runner)[slot].isnan().any())
    for trajectory, latent in zip((LOOKING_BACK[0], LOOKING_BACK[2]), (first, last)):
        assert torch.equal(fly(runner, trajectory)[0], latent)
    (again,) = fly(runner, LOOKING_BACK[1])
    torch.testing.assert_close(
        again, sample_alone(runner.checkpoint, LOOKING_BACK[1]), rtol=1e-4, atol=1e-4
    )


def test_a_tick_can_be_repeated_after_a_fault(checkpoint: Checkpoint, runner: ModelRunner) -> None:
    faults, network = [3, 7], runner._network
    calls = 0

    def sometimes_failing(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls in faults:
            raise RuntimeError("injected")
        return network(x, t, y)

    faulty = ModelRunner(
        checkpoint, FunctionNetwork(sometimes_failing), max_rows=24, reproducible=True
    )
    flight = faulty.join(LOOKING_BACK[3])
    while not flight.done:
        try:
            faulty.tick([flight])
        except RuntimeError:
            continue
    assert calls == 8 + len(faults)
    torch.testing.assert_close(
        finish(faulty, [flight])[0],
        sample_alone(checkpoint, LOOKING_BACK[3]),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_preview_is_the_latest_estimate(runner: ModelRunner) -> None:
    flight = runner.join(LOOKING_BACK[5])
    for _ in range(3):
        runner.tick([flight])
    x0 = runner._tick.x0[flight.slot]
    assert torch.equal(history(runner)[flight.slot, 2], x0)
    assert runner.start_preview([flight]).pixels()[0] is not None
    runner.leave(flight)


def test_less_rows_take_less_memory(checkpoint: Checkpoint) -> None:
    runner = build_runner(checkpoint, max_rows=16)
    assert history(runner).shape == (65, 8, 4, 4, 4)
    runner.limit_rows(8)
    assert history(runner).shape == (33, 8, 4, 4, 4)
    assert bool(fly(runner, *MIXED[:4]).isfinite().all())


def test_a_model_without_ns_refuses_its_images(pipeline_folder: Path) -> None:
    runner = build_runner(load_small_checkpoint(pipeline_folder), max_rows=2)
    with pytest.raises(AssertionError, match="not a sampler of this model"):
        runner.join(LOOKING_BACK[0])
