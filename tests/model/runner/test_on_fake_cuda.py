"""The runner on the fake CUDA device: what it launches where, and that it never waits in a tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from model.backends.step import Buffers, Inputs
from model.device import choose_device
from model.runner.build import build_runner
from model.runner.decoding import Decoding, Pixels
from model.runner.runner import DECODED_AT_ONCE, DeviceLost, Flight, ModelRunner, OutOfMemory
from model.sampling.parameters import SamplerName, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.weights.checkpoint import Checkpoint, load_checkpoint
from service.load_model import load_runner
from service.settings import read_settings
from tests.support.fake_cuda.graphs import Graph
from tests.support.fake_cuda.harness import fake_cuda, forbid_waits, no_waits
from tests.support.fake_cuda.misuse import DeviceMisuse
from tests.support.fake_cuda.streams import Device, Launch
from tests.support.networks import FunctionNetwork, network_of

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a real device: see the tests marked gpu"
)

MAX_ROWS = 16


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with fake_cuda() as device:
        yield device


@pytest.fixture(autouse=True)
def cuda(device: Device) -> Iterator[Device]:
    yield device
    device.reset()


@pytest.fixture(scope="module")
def checkpoint(device: Device, pipeline_folder: Path) -> Checkpoint:
    return load_checkpoint(str(pipeline_folder), device=choose_device("cuda"), dtype=torch.float32)


@pytest.fixture(scope="module")
def recorded(checkpoint: Checkpoint) -> ModelRunner:
    """A runner whose ticks are graphs."""
    runner = build_runner(checkpoint, max_rows=MAX_ROWS)
    runner.warm_up(lambda line: None)
    forbid_waits(runner)
    return runner


def plan(
    sampler: SamplerName = "ddpm",
    steps: int = 4,
    cfg_scale: float = 2.0,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Trajectory:
    sampling = Sampling(
        class_label=1,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=sampler,
        seed=0,
        guidance_interval=interval,
    )
    return plan_trajectory(NoiseSchedule(), sampling)


MIXED = [
    plan("ddim", 3, cfg_scale=1.0),
    plan("ddpm", 5),
    plan("dpmpp_2m", 4),
    plan("ddpm", 4, interval=(0.2, 0.6)),
    plan("dpmpp_2m", 1),
]


@contextmanager
def flying(runner: ModelRunner, *trajectories: Trajectory) -> Iterator[list[Flight]]:
    flights = [runner.join(trajectory) for trajectory in trajectories]
    try:
        yield flights
    finally:
        for flight in flights:
            runner.leave(flight)


def decode(runner: ModelRunner, flights: Sequence[Flight]) -> list[Decoding]:
    """Decode as many at once as the decoder takes."""
    parts = [flights[i : i + DECODED_AT_ONCE] for i in range(0, len(flights), DECODED_AT_ONCE)]
    return [runner.start_decode(part) for part in parts]


def pixels_of(decodings: Sequence[Decoding]) -> Pixels:
    return [image for decoding in decodings for image in decoding.pixels()]


def all_arrived(pixels: Pixels, count: int) -> bool:
    """Whether there are so many images, each with the values that the fake device gives."""
    assert len(pixels) == count
    return all(image is not None and (image == 1).all() for image in pixels)


def replays(cuda: Device) -> set[int]:
    """The numbers of the graphs that were replayed."""
    names = [launch.name for launch in cuda.launches if launch.name.startswith("replay")]
    return {int(name.split()[-1]) for name in names}


def test_dit_device_cuda_builds_a_runner_on_the_device(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIT_DEVICE", "cuda")
    monkeypatch.setenv("DIT_MODEL", str(pipeline_folder))
    runner = load_runner(read_settings())
    assert runner.device == torch.device("cuda:0")
    assert (runner.max_rows, runner.checkpoint.dtype) == (128, torch.bfloat16)
    assert {p.device for p in runner.checkpoint.vae.module.parameters()} == {runner.device}
    with flying(runner, plan(steps=1)) as flights:
        assert runner.tick(flights) == 2
        assert all_arrived(pixels_of(decode(runner, flights)), 1)


def test_the_warm_up_captures_every_row_count(cuda: Device, checkpoint: Checkpoint) -> None:
    before = cuda.graphs_made
    lines: list[str] = []
    times = build_runner(checkpoint, max_rows=4).warm_up(lines.append)
    recorded = [line for line in lines if line.startswith("recording")]
    assert recorded == [f"recording the tick of {rows} rows" for rows in (4, 2, 1)]
    assert cuda.graphs_made - before == 3
    assert replays(cuda) >= {before, before + 1, before + 2}
    assert 0 < times.one_row <= times.full


def test_the_reproducible_warm_up_captures_one_row_count(
    cuda: Device, checkpoint: Checkpoint
) -> None:
    before = cuda.graphs_made
    runner = build_runner(checkpoint, max_rows=4, reproducible=True)
    runner.warm_up(lambda line: None)
    assert cuda.graphs_made - before == 1
    with flying(runner, plan()) as flights:
        assert runner.tick(flights) == 4


def test_a_launched_tick_of_mixed_images_waits_for_nothing(
    cuda: Device, checkpoint: Checkpoint
) -> None:
    runner = build_runner(checkpoint, max_rows=MAX_ROWS)
    forbid_waits(runner)
    rows = []
    with flying(runner, *MIXED) as flights:
        while running := [flight for flight in flights if not flight.done]:
            needed = sum(flight.rows for flight in running)
            rows.append((needed, runner.tick(running)))
    assert rows == [(8, 8), (6, 8), (7, 8), (5, 8), (2, 2)]
    assert {launch.stream for launch in cuda.launches} == {0}
    assert not replays(cuda)


def test_images_that_look_back_wait_for_nothing_launched_or_recorded(
    cuda: Device, checkpoint: Checkpoint
) -> None:
    runner = build_runner(replace(checkpoint, architecture="DiT-XL/2"), max_rows=MAX_ROWS)
    forbid_waits(runner)
    for recorded in (False, True):
        with flying(runner, plan("ns", 5, 1.5), *MIXED[:3], plan("ns", 6, 1.0)) as flights:
            while running := [flight for flight in flights if not flight.done]:
                runner.tick(running)
            assert all_arrived(pixels_of(decode(runner, flights)), 5)
        assert bool(replays(cuda)) is recorded
        runner.record(lambda line: None)


def test_a_recorded_tick_is_two_copies_and_one_replay(cuda: Device, recorded: ModelRunner) -> None:
    with flying(recorded, *MIXED[1:4]) as flights:
        cuda.launches.clear()
        assert recorded.tick(flights) == 8
    work = [launch for launch in cuda.launches if launch.name != "event"]
    assert work[:2] == [Launch(0, "copy to device")] * 2  # the noise and the plan
    assert work[2:] == [Launch(0, f"replay of graph {number}") for number in replays(cuda)]


class LaunchedStep:
    """A step of two launches, as that of Triton's kernels, which the fake device cannot run."""

    def __init__(self, cuda: Device) -> None:
        self._cuda = cuda

    def inputs(self, buffers: Buffers, plan: Tensor) -> Inputs:
        self._cuda.launch("inputs")
        rows, (_, *shape) = len(plan), buffers.latents.shape
        y = torch.empty(rows, dtype=torch.int64, device=plan.device)
        return (
            torch.empty(rows, *shape, device=plan.device),
            torch.empty_like(y, dtype=torch.float),
            y,
        )

    def advance(self, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        self._cuda.launch("advance")


def test_a_recorded_tick_holds_what_its_network_and_its_step_launch(
    cuda: Device, checkpoint: Checkpoint
) -> None:
    def forward(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        cuda.launch("network")
        return torch.empty_like(x)

    network = FunctionNetwork(forward)
    runner = ModelRunner(checkpoint, network, max_rows=2, step=LaunchedStep(cuda))
    runner.record(lambda line: None)
    recordings = runner._tick._recordings.values()
    assert len(recordings) == 2
    for recording in recordings:
        assert cast("Graph", recording.graph).names == ("inputs", "network", "advance")


def test_each_row_count_has_its_graph(cuda: Device, recorded: ModelRunner) -> None:
    graphs: list[int] = []
    for rows in (1, 2, 4, 8, 16):
        with flying(recorded, *[plan("ddim", cfg_scale=1.0)] * rows) as flights:
            cuda.launches.clear()
            assert recorded.tick(flights) == rows
            graphs += replays(cuda)
    assert graphs == sorted(graphs, reverse=True)  # the largest is captured first
    assert len(graphs) == len(set(graphs)) == 5


def test_the_host_runs_two_ticks_ahead(cuda: Device, recorded: ModelRunner) -> None:
    cuda.keeps_up = False
    began, ends = cuda.now, []
    with flying(recorded, plan(steps=8)) as flights:
        for _ in range(4):
            recorded.tick(flights)
            ends.append(cuda.default_stream.ends)
    assert began < ends[0] < ends[1] <= cuda.now < ends[2]
    recorded.synchronize()
    assert cuda.now == ends[3]


def test_decodes_run_in_a_stream_of_their_own(cuda: Device, recorded: ModelRunner) -> None:
    with flying(recorded, *[plan(steps=1)] * 3) as flights:
        recorded.tick(flights)
        cuda.launches.clear()
        cuda.keeps_up = False
        decodings = decode(recorded, flights)
    assert not any(decoding.done for decoding in decodings)
    (stream,) = {launch.stream for launch in cuda.launches} - {0}
    names = cuda.names(stream)
    assert names.index("wait for stream 0") < names.index("aten.conv2d.default")
    assert "record_stream" in names
    assert names.count("copy to host") == 2 * len(decodings)  # pixels, and whether they are finite
    cuda.finish()
    assert all(decoding.done for decoding in decodings)
    assert all_arrived(pixels_of(decodings), 3)


def test_pixels_wait_for_their_copy(cuda: Device, recorded: ModelRunner) -> None:
    with flying(recorded, *[plan(steps=1)] * 2) as flights:
        recorded.tick(flights)
        cuda.keeps_up = False
        assert all_arrived(pixels_of(decode(recorded, flights)), 2)


def test_slots_are_free_again_while_their_images_decode(
    cuda: Device, recorded: ModelRunner
) -> None:
    cuda.keeps_up = False
    with flying(recorded, *[plan(steps=1)] * recorded.slots) as flights:
        for i in range(0, len(flights), 8):
            recorded.tick(flights[i : i + 8])
        decodings = decode(recorded, flights)
    with flying(recorded, *MIXED) as others:
        recorded.tick(others)
    assert all_arrived(pixels_of(decodings), len(flights))


def test_a_preview_shows_an_image_in_progress(cuda: Device, recorded: ModelRunner) -> None:
    with flying(recorded, *MIXED[1:3]) as flights:
        recorded.tick(flights)
        cuda.keeps_up = False
        preview = recorded.start_preview(flights)
        assert not preview.done
        assert all_arrived(preview.pixels(), 2)
        recorded.tick(flights)
        assert [flight.step for flight in flights] == [2, 2]


def test_a_tick_that_runs_out_of_memory_can_be_repeated_in_halves(
    cuda: Device, checkpoint: Checkpoint
) -> None:
    network = network_of(checkpoint, max_rows=MAX_ROWS)

    def hungry(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(x, t, y)

    runner = ModelRunner(checkpoint, FunctionNetwork(hungry), max_rows=MAX_ROWS)
    with flying(runner, *[plan()] * 8) as flights:
        with pytest.raises(OutOfMemory):
            runner.tick(flights)
        runner.release_cached_memory()
        assert cuda.caches_emptied == 1
        assert [flight.step for flight in flights] == [0] * 8
        assert [runner.tick(half) for half in (flights[:4], flights[4:])] == [8, 8]
        assert [flight.step for flight in flights] == [1] * 8


def test_a_fault_of_the_device_is_a_lost_device(cuda: Device, recorded: ModelRunner) -> None:
    with flying(recorded, plan(steps=2)) as flights:
        recorded.tick(flights)
        cuda.keeps_up = False
        decodings = decode(recorded, flights)
        cuda.fault = torch.AcceleratorError("CUDA error: unspecified launch failure")
        for act in (
            lambda: recorded.tick(flights),
            lambda: decode(recorded, flights),
            lambda: pixels_of(decodings),
        ):
            with pytest.raises(DeviceLost, match="unspecified launch failure"):
                act()


Act = Callable[[Tensor, Tensor], object]


def runner_that(checkpoint: Checkpoint, act: Act) -> ModelRunner:
    """A runner whose network does something with its latents and timesteps before each pass."""
    network = network_of(checkpoint)

    def forward(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        act(x, t)
        return network(x, t, y)

    return ModelRunner(checkpoint, FunctionNetwork(forward), max_rows=2)


def tick_once(runner: ModelRunner) -> None:
    forbid_waits(runner)
    with flying(runner, plan()) as flights:
        runner.tick(flights)


@pytest.mark.parametrize(
    "act",
    [
        lambda x, t: x[torch.arange(len(x))],
        lambda x, t: x[[0]],
        lambda x, t: x.index_select(0, torch.arange(len(x))),
    ],
)
def test_a_cpu_index_into_a_cuda_tensor_is_caught(checkpoint: Checkpoint, act: Act) -> None:
    with pytest.raises(DeviceMisuse, match=r"a CPU index .* into a CUDA tensor"):
        tick_once(runner_that(checkpoint, act))


def test_a_cpu_tensor_among_cuda_tensors_is_caught(checkpoint: Checkpoint) -> None:
    with pytest.raises(DeviceMisuse, match=r"a CPU tensor \(1,\) among CUDA tensors"):
        tick_once(runner_that(checkpoint, lambda x, t: x * torch.ones(1)))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda x, t: t[0].item(), "reads a value .* makes the host wait"),
        (lambda x, t: float(t[0]), "reads a value .* makes the host wait"),
        (lambda x, t: bool((t > 3).any()), "reads a value .* makes the host wait"),
        (lambda x, t: torch.equal(t, t), "reads a value .* makes the host wait"),
        (lambda x, t: t.tolist(), "tolist makes the host wait"),
        (lambda x, t: t.cpu(), "copy without non_blocking=True makes the host wait"),
        (lambda x, t: torch.tensor([1], device=x.device), "copy without non_blocking=True makes"),
        (lambda x, t: t.nonzero(), "nonzero waits for the device"),
        (lambda x, t: x[t > 3], "shape depends on values"),
        (lambda x, t: torch.cuda.synchronize(), "synchronize makes the host wait"),
        (lambda x, t: torch.cuda.current_stream().synchronize(), "synchronize makes the host wait"),
    ],
)
def test_a_wait_in_a_tick_is_caught(checkpoint: Checkpoint, act: Act, words: str) -> None:
    with pytest.raises(DeviceMisuse, match=words):
        tick_once(runner_that(checkpoint, act))


@pytest.mark.parametrize(
    "act",
    [
        lambda x, t: torch.ones(3).to(x.device, non_blocking=True),
        lambda x, t: x[0, 0, 0].copy_(torch.ones(4), non_blocking=True),
        lambda x, t: torch.empty(x.shape).copy_(x, non_blocking=True),
    ],
)
def test_an_unpinned_copy_that_should_not_block_is_caught(checkpoint: Checkpoint, act: Act) -> None:
    with pytest.raises(DeviceMisuse, match=r"non_blocking=True, .* not in pinned memory"):
        tick_once(runner_that(checkpoint, act))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda x, t: torch.randn_like(x), "a random operation under capture"),
        (lambda x, t: torch.rand(1), "a random operation under capture"),
        (lambda x, t: x + torch.tensor(1.0), "a CPU tensor under capture"),
        (lambda x, t: torch.ones(1).pin_memory().to(x.device), "a CPU tensor under capture"),
    ],
)
def test_what_a_graph_cannot_repeat_is_caught(checkpoint: Checkpoint, act: Act, words: str) -> None:
    runner = runner_that(checkpoint, act)
    with flying(runner, plan()) as flights:
        runner.tick(flights)  # launched kernel by kernel, it may do that
    with pytest.raises(DeviceMisuse, match=words):
        runner.warm_up(lambda line: None)


def test_a_wait_under_capture_is_caught(cuda: Device) -> None:
    x = torch.ones(3, device="cuda")
    with (
        pytest.raises(DeviceMisuse, match="waits for the device while a graph is captured"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        x.sum().item()


def test_what_is_read_before_it_has_arrived_is_zero(cuda: Device) -> None:
    cuda.keeps_up = False
    host = torch.empty(3, dtype=torch.uint8, pin_memory=True)
    with no_waits():
        host.copy_(torch.ones(3, dtype=torch.uint8, device="cuda"), non_blocking=True)
    assert host.tolist() == [0, 0, 0]
    cuda.finish()
    assert host.tolist() == [1, 1, 1]


def timed_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]


def test_events_tell_the_time_between_them(cuda: Device) -> None:
    cuda.keeps_up = False
    began, ended = timed_event(), timed_event()
    began.record()
    torch.ones(3, device="cuda").add_(1).mul_(2)
    ended.record()
    assert not ended.query()  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="not ready"):
        began.elapsed_time(ended)
    ended.synchronize()
    assert began.elapsed_time(ended) == pytest.approx(0.03)


def test_a_device_needs_an_index_to_become_current(cuda: Device) -> None:
    with pytest.raises(ValueError, match="with a specified index"):
        torch.cuda.set_device(torch.device("cuda"))
    torch.cuda.set_device("cuda:0")
    assert choose_device("auto") == torch.device("cuda:0")
