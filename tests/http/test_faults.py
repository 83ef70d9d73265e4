"""Faults of the network and the autoencoder, through HTTP: only the affected request fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import torch

from model.runner.runner import ModelRunner
from tests.support.faulty import BAD_LABEL, Fault, FaultyNetwork, Gate, with_faulty_vae
from tests.support.networks import network_of
from tests.support.requests import generate, images_of
from tests.support.services import (
    LIMITS,
    PATIENCE_S,
    Running,
    load_small_checkpoint,
    running_service,
    wait_until,
)

BAD: dict[str, object] = {"class_label": BAD_LABEL, "seed": 666, "num_sampling_steps": 6}
GOOD: list[dict[str, object]] = [
    {
        "class_label": seed % BAD_LABEL,
        "seed": seed,
        "num_sampling_steps": 4 + seed,
        "sampler": ("ddim", "ddpm", "dpmpp_2m")[seed % 3],
        "cfg_scale": (1.0, 4.0)[seed % 2],
        "num_images": 1 + seed % 2,
    }
    for seed in range(8)
]
GAUGES = ("dit_requests_running", "dit_requests_waiting", "dit_row_steps_waiting")


@dataclass(frozen=True, slots=True)
class Faulty:
    """A service with an injected fault; the gate blocks the first pass with a bad row."""

    running: Running
    network: FaultyNetwork
    gate: Gate


@contextmanager
def faulty_service(
    folder: Path,
    *,
    fault: Fault | None = None,
    fill: float | None = None,
    vae_fault: Fault | None = None,
) -> Iterator[Faulty]:
    """In reproducible mode. The bad image fails at its second step, next to good images."""
    checkpoint = load_small_checkpoint(folder)
    if vae_fault is not None:
        checkpoint = with_faulty_vae(checkpoint, vae_fault)
    gate = Gate()
    independent = network_of(checkpoint, independent=True)
    network = FaultyNetwork(independent, fault=fault, fill=fill, first=gate, spared=1)

    def load() -> ModelRunner:
        return ModelRunner(checkpoint, network, max_rows=32, reproducible=True)

    with running_service(load, limits=replace(LIMITS, reproducible=True)) as running:
        try:
            yield Faulty(running, network, gate)
        finally:
            gate.open()


def files(running: Running, body: dict[str, object]) -> list[bytes]:
    return images_of(generate(running, body, "application/json"))


def together(faulty: Faulty, bad: dict[str, object]) -> tuple[httpx.Response, list[list[bytes]]]:
    """Answers to a bad request and to all good ones, which are admitted before the fault occurs."""
    running, gate = faulty.running, faulty.gate
    with ThreadPoolExecutor(len(GOOD) + 1) as pool:
        culprit = pool.submit(generate, running, bad)
        assert gate.reached.wait(PATIENCE_S)
        others: list[Future[list[bytes]]] = []
        for body in GOOD:
            before = running.queue_row_steps
            others.append(pool.submit(files, running, body))
            wait_until(lambda before=before: running.queue_row_steps > before)  # type: ignore[misc]
        gate.open()
        return culprit.result(), [other.result() for other in others]


def check_the_service_is_healthy(running: Running) -> None:
    wait_until(lambda: running.queue_row_steps == 0)
    for gauge in GAUGES:
        wait_until(lambda gauge=gauge: running.metric(gauge) == 0)  # type: ignore[misc]
    assert running.client.get("/readyz").status_code == 200
    assert len(files(running, GOOD[1])) == 2


def raising(kind: Callable[[str], BaseException]) -> Fault:
    return lambda: kind("injected")


@pytest.mark.parametrize("kind", [RuntimeError, ZeroDivisionError, torch.OutOfMemoryError])
@pytest.mark.parametrize("images", [1, 3])
def test_a_failing_step_fails_only_its_request(
    pipeline_folder: Path, kind: Callable[[str], BaseException], images: int
) -> None:
    with faulty_service(pipeline_folder, fault=raising(kind)) as faulty:
        alone = [files(faulty.running, body) for body in GOOD]
        failed, others = together(faulty, BAD | {"num_images": images})
        assert failed.status_code == 500
        assert failed.json()["title"] == "Image failed"
        assert others == alone
        assert faulty.network.faults > 2, "it was never in a tick with others"
        assert faulty.running.metric("dit_images_total", outcome="failed") == images
        check_the_service_is_healthy(faulty.running)


@pytest.mark.parametrize("fill", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_fails_only_its_request(
    pipeline_folder: Path, fill: float
) -> None:
    with faulty_service(pipeline_folder, fill=fill) as faulty:
        alone = [files(faulty.running, body) for body in GOOD]
        failed, others = together(faulty, BAD)
        assert failed.status_code == 500
        assert others == alone
        assert faulty.running.metric("dit_nonfinite_images_total") == 1
        check_the_service_is_healthy(faulty.running)


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_a_failing_decode_fails_only_its_request(
    pipeline_folder: Path, kind: Callable[[str], BaseException]
) -> None:
    with faulty_service(pipeline_folder, fill=1e9, vae_fault=raising(kind)) as faulty:
        alone = [files(faulty.running, body) for body in GOOD]
        same_end = BAD | {"num_sampling_steps": 8}  # like a good one: decoded together
        failed, others = together(faulty, same_end)
        assert failed.status_code == 500
        assert others == alone
        assert faulty.running.metric("dit_images_total", outcome="failed") == 1
        check_the_service_is_healthy(faulty.running)


def test_too_many_rows_for_the_memory_fail_no_request(pipeline_folder: Path) -> None:
    with faulty_service(pipeline_folder) as faulty:
        alone = [files(faulty.running, body) for body in GOOD]
        faulty.network.most_rows = 5
        answer, others = together(faulty, BAD)
        assert answer.status_code == 200
        assert others == alone
        assert faulty.network.faults > 0
        assert faulty.running.metric("dit_out_of_memory_total") > 0
        assert faulty.running.metric("dit_images_total", outcome="failed") == 0
        check_the_service_is_healthy(faulty.running)


def test_requests_fail_only_while_there_is_no_memory(pipeline_folder: Path) -> None:
    with faulty_service(pipeline_folder) as faulty:
        alone = files(faulty.running, GOOD[1])
        faulty.network.most_rows = 0
        assert generate(faulty.running, GOOD[1]).status_code == 500
        faulty.network.most_rows = 32
        assert files(faulty.running, GOOD[1]) == alone
        check_the_service_is_healthy(faulty.running)
