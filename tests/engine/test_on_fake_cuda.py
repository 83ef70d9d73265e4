"""The worker on the fake CUDA device: jobs from their first tick to their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.backends.network import Network
from model.weights.checkpoint import Checkpoint, load_checkpoint
from service.errors import ClientGone
from service.scheduling.jobs import Job, Progress
from tests.support import workbench
from tests.support.fake_cuda.harness import fake_cuda, forbid_waits
from tests.support.fake_cuda.streams import Device
from tests.support.networks import FunctionNetwork, network_of
from tests.support.workbench import Bench, pixels

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="there is a real device: see the tests marked gpu"
)

MAX_ROWS = 8


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with fake_cuda() as device:
        yield device


@pytest.fixture(autouse=True)
def cuda(device: Device) -> Iterator[Device]:
    yield device
    device.reset()


def load_on_cuda(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), device=torch.device("cuda:0"), dtype=torch.float32)


def bench_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, network: Network | None = None
) -> Bench:
    """A worker whose ticks and decodes must not wait for the device."""
    monkeypatch.setattr(workbench, "load_small_checkpoint", load_on_cuda)
    bench = Bench(folder, max_rows=MAX_ROWS, network=network)
    forbid_waits(bench.runner)
    return bench


@pytest.fixture
def bench(cuda: Device, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return bench_of(pipeline_folder, monkeypatch)


def arrived(job: Job) -> list[bool]:
    """Whether each image of a job has the pixels that the fake device gives."""
    return [image.shape == (8, 8, 3) and bool((image == 1).all()) for image in pixels(job)]


def all_slots_are_free(bench: Bench) -> bool:
    flights = [
        bench.runner.join(trajectory)
        for trajectory in bench.submit(*range(bench.runner.slots)).trajectories
    ]
    return len({flight.slot for flight in flights}) == bench.runner.slots


def test_two_jobs_come_to_their_end(cuda: Device, bench: Bench) -> None:
    bench.runner.warm_up(lambda line: None)
    reports: list[Progress] = []
    first = bench.submit(1, 2, steps=3)
    second = bench.submit(3, steps=5, preview_every=2, on_progress=reports.append)
    while bench.worker.busy:
        bench.worker.step()
        cuda.finish()  # late: after the step that launched it
    assert arrived(first) == [True, True]
    assert arrived(second) == [True]
    previews = [report.previews for report in reports if report.previews]
    assert [len(each) for each in previews] == [1, 1]
    assert all((image == 1).all() for each in previews for _, image in each)
    assert bench.metric("dit_images_total", outcome="ok") == 3
    assert bench.metric("dit_gpu_memory_bytes", kind="allocated") > 0
    assert bench.queue.row_steps == 0
    assert all_slots_are_free(bench)


def test_ticks_go_on_while_images_decode(cuda: Device, bench: Bench) -> None:
    bench.runner.warm_up(lambda line: None)
    short, long = bench.submit(1, steps=1), bench.submit(2, steps=20)
    cuda.keeps_up = False
    bench.worker.step()
    cuda.launches.clear()
    bench.worker.step()
    assert not short.future.done()
    assert any(launch.name.startswith("replay") for launch in cuda.launches)
    cuda.finish()
    bench.worker.step()
    assert arrived(short) == [True]
    assert not long.future.done()
    bench.finish()
    assert arrived(long) == [True]


def test_an_out_of_memory_halves_the_ticks(
    cuda: Device, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(load_on_cuda(pipeline_folder))

    def hungry(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        if len(x) > MAX_ROWS // 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(x, t, y)

    bench = bench_of(pipeline_folder, monkeypatch, FunctionNetwork(hungry))
    jobs = [bench.submit(seed) for seed in range(4)]
    bench.finish()
    assert [arrived(job) for job in jobs] == [[True]] * 4
    assert bench.metric("dit_row_limit") == MAX_ROWS // 2
    assert bench.metric("dit_out_of_memory_total") == cuda.caches_emptied == 1
    assert all_slots_are_free(bench)


def test_a_cancelled_job_leaves_the_device(cuda: Device, bench: Bench) -> None:
    stays, leaves = bench.submit(1, steps=6), bench.submit(2, 3, steps=6)
    for _ in range(2):
        bench.worker.step()
    leaves.cancel()
    bench.finish()
    assert isinstance(leaves.future.exception(timeout=0), ClientGone)
    assert arrived(stays) == [True]
    assert bench.metric("dit_images_total", outcome="cancelled") == 2
    assert bench.queue.row_steps == 0
    assert all_slots_are_free(bench)


def test_images_beyond_the_slots_are_parked_without_a_wait(cuda: Device, bench: Bench) -> None:
    bench.runner.warm_up(lambda line: None)
    jobs = [bench.submit(seed, steps=300 - 2 * seed) for seed in range(bench.runner.slots + 3)]
    flights = [bench.runner.join(each.trajectories[0]) for each in jobs]
    for _ in range(2):
        for flight in flights:
            bench.runner.tick([flight])
            cuda.finish()
    assert {flight.step for flight in flights} == {2}
    assert sum(flight.parked is not None for flight in flights) == 3
