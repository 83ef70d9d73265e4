"""The runner: a tick for many images gives each what it would get alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.backends.network import Network
from model.networks.dit import DiT
from model.networks.vae import Vae
from model.runner import build
from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from model.sampling.noise import ImageNoise
from model.sampling.parameters import SamplerName, Sampling
from model.sampling.samplers import advance
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.weights.checkpoint import Checkpoint, load_checkpoint
from tests.support.networks import FunctionNetwork, network_of
from tests.support.services import load_small_checkpoint, load_small_runner

SCHEDULE = NoiseSchedule()


def plan(
    class_label: int = 0,
    cfg_scale: float = 1.5,
    steps: int = 5,
    sampler: SamplerName = "ddim",
    seed: int = 0,
    interval: tuple[float, float] = (0.0, 1.0),
    schedule: NoiseSchedule = SCHEDULE,
) -> Trajectory:
    sampling = Sampling(
        class_label=class_label,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=sampler,
        seed=seed,
        guidance_interval=interval,
    )
    return plan_trajectory(schedule, sampling)


MIXED = [
    plan(0, 1.0, 3, "ddim", 1),
    plan(1, 4.0, 7, "ddpm", 2),
    plan(2, 1.5, 5, "dpmpp_2m", 3),
    plan(3, 8.0, 4, "ddpm", 4, (0.2, 0.6)),
    plan(4, 2.0, 1, "dpmpp_2m", 5),
]


def fly(runner: ModelRunner, trajectories: list[Trajectory]) -> list[np.ndarray]:
    """Start images together and run each to its own end."""
    flights = [runner.join(trajectory) for trajectory in trajectories]
    while running := [flight for flight in flights if not flight.done]:
        runner.tick(running)
    pixels = runner.decode(flights)
    for flight in flights:
        runner.leave(flight)
    return [image for image in pixels if image is not None]


@torch.no_grad()
def sample_alone(checkpoint: Checkpoint, trajectory: Trajectory) -> Tensor:
    """One image by the simplest possible loop over the model's public functions."""
    dit, table = checkpoint.dit, trajectory.table
    noise = ImageNoise(trajectory.seed, (dit.in_channels, dit.input_size, dit.input_size))
    x = noise.draw().unsqueeze(0)
    x0 = torch.zeros_like(x)
    y = torch.tensor([trajectory.class_label])
    for step in range(len(table)):
        t = table.timesteps[step : step + 1]
        if trajectory.rows_at(step) == 2:
            both = torch.cat([y, torch.tensor([dit.num_classes])])
            answers = dit.forward_with_cfg(
                torch.cat([x, x]), torch.cat([t, t]), both, trajectory.cfg_scale
            )
            output = answers[:1]
        else:
            output = dit(x, t, y)
        fresh = noise.draw().unsqueeze(0) if table.draws(step) else torch.zeros_like(x)
        x, x0 = advance(x, x0, output, fresh, table.coefficients[step : step + 1])
    return x


@pytest.fixture(scope="module")
def runner(pipeline_folder: Path) -> ModelRunner:
    return load_small_runner(pipeline_folder)


@pytest.mark.parametrize("trajectory", MIXED)
def test_the_runner_gives_what_a_plain_loop_gives(
    runner: ModelRunner, trajectory: Trajectory
) -> None:
    flight = runner.join(trajectory)
    while not flight.done:
        runner.tick([flight])
    ours = runner._tick.latents[flight.slot]
    torch.testing.assert_close(
        ours, sample_alone(runner.checkpoint, trajectory)[0], rtol=1e-4, atol=1e-4
    )
    runner.leave(flight)


def test_images_in_company_equal_images_alone(runner: ModelRunner) -> None:
    together = fly(runner, MIXED)
    for trajectory, image in zip(MIXED, together):
        (alone,) = fly(runner, [trajectory])
        assert np.abs(image.astype(int) - alone.astype(int)).max() <= 1


def test_images_join_and_leave_at_any_tick(runner: ModelRunner) -> None:
    early, late = MIXED[1], MIXED[2]
    first = runner.join(early)
    for _ in range(3):
        runner.tick([first])
    second = runner.join(late)
    while not (first.done and second.done):
        runner.tick([flight for flight in (first, second) if not flight.done])
    shown = runner.decode([first, second])
    for flight in (first, second):
        runner.leave(flight)
    for trajectory, image in zip((early, late), shown):
        (alone,) = fly(runner, [trajectory])
        assert image is not None
        assert np.abs(image.astype(int) - alone.astype(int)).max() <= 1


def test_reproducible_bytes_do_not_depend_on_company(pipeline_folder: Path) -> None:
    runner = load_small_runner(pipeline_folder, max_rows=16, reproducible=True)
    together = fly(runner, MIXED)
    for trajectory, image in zip(MIXED, together):
        assert np.array_equal(fly(runner, [trajectory])[0], image)


def test_reproducible_ticks_are_padded_where_rows_depend_on_each_other(
    pipeline_folder: Path,
) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    independent = FunctionNetwork(network_of(checkpoint))
    independent.rows_are_independent = True
    for network, rows in ((independent, 2), (FunctionNetwork(checkpoint.dit), 16)):
        runner = ModelRunner(checkpoint, network, max_rows=16, reproducible=True)
        assert runner.tick([runner.join(plan())]) == rows


@pytest.mark.parametrize("reproducible", [True, False])
def test_a_reproducible_runner_chooses_nothing_by_time(
    pipeline_folder: Path, reproducible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, asked = load_small_checkpoint(pipeline_folder), list[tuple[bool, bool]]()

    def network_for(dit: DiT, *, measure: bool, independent: bool, **_: object) -> Network:
        asked.append((measure, independent))
        return FunctionNetwork(dit)

    monkeypatch.setattr(build, "network_for", network_for)
    build_runner(checkpoint, max_rows=8, reproducible=reproducible)
    assert asked == [(not reproducible, reproducible)]


class PassesNetwork(FunctionNetwork):
    """Notes the (timestep, label) of the rows of each pass; label 3 is at fault if told so."""

    def __init__(self, network: Network) -> None:
        super().__init__(self._answer)
        self.passes: list[list[tuple[float, int]]] = []
        self.faulty = False
        self._network = network

    def _answer(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if self.faulty and 3 in y:
            raise RuntimeError("injected")
        self.passes.append(list(zip(t.tolist(), y.tolist())))
        return self._network(x, t, y)


@pytest.fixture
def chunked(pipeline_folder: Path) -> tuple[ModelRunner, PassesNetwork]:
    """A reproducible runner whose rows may depend on each other, as on CUDA."""
    checkpoint = load_small_checkpoint(pipeline_folder)
    network = PassesNetwork(network_of(checkpoint))
    return ModelRunner(checkpoint, network, max_rows=64, reproducible=True), network


def test_reproducible_ticks_run_passes_of_equal_row_counts(
    chunked: tuple[ModelRunner, PassesNetwork],
) -> None:
    runner, network = chunked
    unguided = [plan(0, 1.0, 2, "ddim", seed) for seed in range(3)]
    guided = [plan(1, 2.0, steps, "ddim", 9) for steps in range(2, 23)]
    flights = [runner.join(trajectory) for trajectory in unguided + guided]
    assert runner.tick(flights) == 48
    assert [len(rows) for rows in network.passes] == [16, 16, 16]
    null = runner.checkpoint.dit.num_classes
    for rows in network.passes[:2]:  # guided images alone
        own = sorted(t for t, label in rows if label == 1)
        assert own == sorted(t for t, label in rows if label == null)
        assert len(own) == 8
    assert runner.tick([flights[0]]) == 16
    assert [len(rows) for rows in network.passes[3:]] == [16]


def test_an_image_in_chunks_gets_what_it_gets_alone(
    chunked: tuple[ModelRunner, PassesNetwork],
) -> None:
    runner, _ = chunked
    many = [plan(seed % 5, 1.0 + seed % 3, 4, "ddpm", seed) for seed in range(30)]
    together = fly(runner, many)
    for trajectory, image in list(zip(many, together))[::7]:
        assert np.array_equal(fly(runner, [trajectory])[0], image)


def test_a_fault_in_one_chunk_advances_no_image_twice(
    chunked: tuple[ModelRunner, PassesNetwork],
) -> None:
    runner, network = chunked
    many = [plan(seed // 8, 2.0, 3, "ddpm", seed) for seed in range(32)]  # a class per chunk
    expected = fly(runner, many)
    flights = [runner.join(trajectory) for trajectory in many]
    network.faulty = True
    with pytest.raises(RuntimeError, match="injected"):
        runner.tick(flights)
    assert {flight.step for flight in flights} == {0}
    network.faulty = False
    assert runner.tick(flights[:12]) == 32
    assert runner.tick(flights[12:]) == 48
    while not flights[0].done:
        runner.tick(flights)
    shown = [image for image in runner.decode(flights) if image is not None]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(shown, expected, strict=True))


class CountedVae:
    """Counts the images of each pass of an autoencoder."""

    def __init__(self, vae: Vae) -> None:
        self._vae = vae
        self.passes: list[int] = []

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        self.passes.append(len(latents))
        return self._vae.decode(latents)


@pytest.mark.parametrize(("reproducible", "passes"), [(True, [1] * 5), (False, [5])])
def test_reproducible_decodes_take_one_image_at_a_time(
    pipeline_folder: Path, reproducible: bool, passes: list[int]
) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    vae = CountedVae(checkpoint.vae)
    counted = replace(checkpoint, vae=vae)  # type: ignore[arg-type]
    fly(build_runner(counted, max_rows=16, reproducible=reproducible), MIXED)
    assert vae.passes == passes


def test_a_flight_knows_the_rows_of_its_next_steps(runner: ModelRunner) -> None:
    flight = runner.join(plan(1, steps=11, interval=(0.0, 0.15)))
    assert flight.rows == 1
    assert flight.next_pairs(2, null_class=9) == [(999.0, 1), (899.0, 1)]
    flight.step = 9
    assert flight.rows == 2
    assert flight.next_pairs(8, null_class=9) == [(100.0, 1), (100.0, 9), (0.0, 1), (0.0, 9)]
    flight.step = 11
    assert flight.done
    assert flight.rows == 0
    runner.leave(flight)


def test_the_runner_leaves_the_checkpoint_unchanged(pipeline_folder: Path) -> None:
    checkpoint = load_small_checkpoint(pipeline_folder)
    before = {name: each.clone() for name, each in checkpoint.dit.state_dict().items()}
    runner = build_runner(checkpoint, max_rows=8)
    runner.warm_up(lambda line: None)
    fly(runner, MIXED)
    after = checkpoint.dit.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    torch.testing.assert_close(
        fly(runner, MIXED[:1]), fly(build_runner(checkpoint, max_rows=8), MIXED[:1])
    )


def test_a_runner_that_consumes_the_weights_gives_the_same_images(pipeline_folder: Path) -> None:
    expected = fly(load_small_runner(pipeline_folder, max_rows=8), MIXED)
    checkpoint = load_small_checkpoint(pipeline_folder)
    images = fly(build_runner(checkpoint, max_rows=8, consume=True), MIXED)
    assert all(each.linear.weight.is_meta for each in checkpoint.dit.modulations)
    assert not checkpoint.dit.pos_embed.is_meta  # ModelInfo reads its dtype and device
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(images, expected))


def test_a_tick_counts_the_rows_it_ran(runner: ModelRunner) -> None:
    flights = [runner.join(plan(cfg_scale=scale)) for scale in (1.0, 2.0, 3.0)]
    assert runner.tick(flights) == 5
    for flight in flights:
        runner.leave(flight)


def test_a_slot_keeps_nothing_of_the_image_before(runner: ModelRunner) -> None:
    trajectory = plan(sampler="dpmpp_2m", seed=9)
    (clean,) = fly(runner, [trajectory])
    runner._tick.latents.fill_(torch.nan)
    runner._tick.x0.fill_(torch.nan)
    assert np.array_equal(fly(runner, [trajectory])[0], clean)
    runner._tick.latents.zero_()
    runner._tick.x0.zero_()


def test_a_latent_that_is_not_finite_is_reported_and_harms_no_other(runner: ModelRunner) -> None:
    flights = [runner.join(plan(seed=seed)) for seed in (1, 2, 3)]
    runner._tick.latents[flights[1].slot, 0, 0, 0] = torch.nan
    while not flights[0].done:
        runner.tick(flights)
    pixels = runner.decode(flights)
    for flight in flights:
        runner.leave(flight)
    assert pixels[1] is None
    assert pixels[0] is not None
    assert np.array_equal(fly(runner, [plan(seed=1)])[0], pixels[0])


def test_a_tick_repeated_after_a_fault_draws_no_second_noise(pipeline_folder: Path) -> None:
    checkpoint, faults = load_small_checkpoint(pipeline_folder), [RuntimeError("injected")]
    network = network_of(checkpoint)

    def failing_once(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if faults:
            raise faults.pop()
        return network(x, t, y)

    trajectory = plan(sampler="ddpm", seed=3)
    faulty = ModelRunner(checkpoint, FunctionNetwork(failing_once), max_rows=4)
    flight = faulty.join(trajectory)
    with pytest.raises(RuntimeError, match="injected"):
        faulty.tick([flight])
    assert flight.step == 0
    while not flight.done:
        faulty.tick([flight])
    (expected,) = fly(load_small_runner(pipeline_folder), [trajectory])
    shown = faulty.decode([flight])[0]
    assert shown is not None
    assert np.array_equal(shown, expected)


def test_warm_up_leaves_every_slot_free(runner: ModelRunner) -> None:
    lines: list[str] = []
    times = runner.warm_up(lines.append)
    assert times.one_row > 0
    assert times.full > 0
    assert times.decode > 0
    assert lines
    flights = [runner.join(plan(seed=i)) for i in range(runner.slots)]
    for flight in flights:
        runner.leave(flight)


def test_a_paused_image_continues_where_it_was(runner: ModelRunner) -> None:
    first, *others = [runner.join(trajectory) for trajectory in MIXED[1:4]]
    runner.tick([first])
    while not all(flight.done for flight in others):
        runner.tick([flight for flight in others if not flight.done])
    while not first.done:
        runner.tick([first])
    shown = runner.decode([first])[0]
    for flight in (first, *others):
        runner.leave(flight)
    assert shown is not None
    assert np.array_equal(shown, fly(runner, [MIXED[1]])[0])


def test_a_decoding_outlives_its_slot(runner: ModelRunner) -> None:
    flight = runner.join(MIXED[2])
    while not flight.done:
        runner.tick([flight])
    decoding = runner.start_decode([flight])
    runner.leave(flight)
    (expected,) = fly(runner, [MIXED[2]])
    (shown,) = decoding.pixels()
    assert decoding.done
    assert shown is not None
    assert np.array_equal(shown, expected)


@pytest.fixture
def cuda_runner(pipeline_folder: Path) -> ModelRunner:
    checkpoint = load_checkpoint(
        str(pipeline_folder), device=torch.device("cuda:0"), dtype=torch.float32
    )
    return build_runner(checkpoint, max_rows=32)


@pytest.mark.gpu
def test_cuda_gives_the_cpus_pictures(cuda_runner: ModelRunner, runner: ModelRunner) -> None:
    for here, there in zip(fly(cuda_runner, MIXED), fly(runner, MIXED)):
        assert np.abs(here.astype(int) - there.astype(int)).max() <= 2


@pytest.mark.gpu
def test_recorded_ticks_give_the_pictures_of_launched_ones(cuda_runner: ModelRunner) -> None:
    launched = fly(cuda_runner, MIXED)
    cuda_runner.warm_up(lambda line: None)
    for before, after in zip(launched, fly(cuda_runner, MIXED)):
        assert np.abs(before.astype(int) - after.astype(int)).max() <= 2


@pytest.mark.gpu
def test_ticks_during_a_decode_do_not_harm_it(cuda_runner: ModelRunner) -> None:
    cuda_runner.warm_up(lambda line: None)
    (expected,) = fly(cuda_runner, [MIXED[0]])
    flight = cuda_runner.join(MIXED[0])
    while not flight.done:
        cuda_runner.tick([flight])
    decoding = cuda_runner.start_decode([flight])
    cuda_runner.leave(flight)
    fly(cuda_runner, MIXED[1:])
    (shown,) = decoding.pixels()
    assert shown is not None
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1


@contextmanager
def no_synchronization() -> Iterator[None]:
    """Whatever waits for the device raises, as far as torch's experimental mode notices it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at its first use, the mode warns that it is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_mode_that_forbids_synchronization_may_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []

    def set_mode(mode: str) -> None:
        if not modes:
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
        modes.append(mode)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with no_synchronization():
        assert modes == ["error"]
    assert modes == ["error", "default"]


@pytest.mark.gpu
def test_no_tick_waits_for_the_device(cuda_runner: ModelRunner) -> None:
    cuda_runner.warm_up(lambda line: None)
    flights = [cuda_runner.join(replace(trajectory)) for trajectory in MIXED[:4]]
    with no_synchronization():
        for _ in range(2):
            cuda_runner.tick(flights)
    for flight in flights:
        cuda_runner.leave(flight)


@pytest.mark.gpu
def test_rows_are_padded_on_cuda(cuda_runner: ModelRunner) -> None:
    flights = [cuda_runner.join(plan(cfg_scale=1.0, seed=i)) for i in range(5)]
    assert cuda_runner.tick(flights) == 8
    for flight in flights:
        cuda_runner.leave(flight)
