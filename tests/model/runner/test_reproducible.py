"""Reproducible mode: a request gives the same bytes alone, among others and after a restart."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from torch import Tensor

from model.networks.vae import Vae
from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from model.weights.checkpoint import Checkpoint, load_checkpoint
from tests.support.processes import PROCESS_S, answers, free_port, process
from tests.support.services import (
    LIMITS,
    Running,
    load_bundled_runner,
    load_small_runner,
    running_service,
    wait_until,
)

POLICY_HERE = replace(LIMITS, reproducible=True)
MOST_COMPANY = 32
ANSWER_S = 180.0
"""How long an answer may take, with all that company on the bundled model."""

Digests = list[str]


def drawn(draw: random.Random, *, num_classes: int, most_steps: int) -> dict[str, object]:
    """A request with random class, steps, sampler, guidance, interval and number of images."""
    return {
        "class_label": draw.randrange(num_classes),
        "cfg_scale": draw.choice([1.0, 1.5, 4.0, 7.5]),
        "num_sampling_steps": draw.randint(1, most_steps),
        "sampler": draw.choice(["ddim", "ddpm", "dpmpp_2m"]),
        "seed": draw.randrange(2**63),
        "guidance_interval": draw.choice([[0.0, 1.0], [0.1, 0.8], [0.5, 0.5]]),
        "num_images": draw.choice([1, 1, 1, 2, 3]),
        "timeout_s": ANSWER_S,
    }


def requests(
    count: int, seed: int, *, num_classes: int, most_steps: int
) -> list[dict[str, object]]:
    draw = random.Random(seed)
    return [drawn(draw, num_classes=num_classes, most_steps=most_steps) for _ in range(count)]


def digests(client: httpx.Client, request: dict[str, object]) -> Digests:
    """SHA-256 of each of a request's PNG files."""
    accept = {"Accept": "application/json"}
    answer = client.post("/generate", json=request, headers=accept, timeout=ANSWER_S)
    assert answer.status_code == 200, answer.text
    files = [base64.b64decode(each["b64_json"]) for each in answer.json()["images"]]
    assert all(file.startswith(b"\x89PNG") for file in files)
    return [hashlib.sha256(file).hexdigest() for file in files]


def in_company(
    client: httpx.Client,
    request: dict[str, object],
    company: list[dict[str, object]],
    draw: random.Random,
) -> Digests:
    """The same with other requests at the same time, sent in random order."""
    all_requests = [request, *company]
    draw.shuffle(all_requests)
    with ThreadPoolExecutor(len(all_requests)) as pool:
        answered = [(each, pool.submit(digests, client, each)) for each in all_requests]
        return next(future.result() for each, future in answered if each is request)


def check_company_changes_no_byte(
    running: Running, asked: list[dict[str, object]], *, most_steps: int
) -> list[Digests]:
    """Assert that each request gives the same bytes among others as alone; returns those."""
    draw = random.Random(1)
    classes = len(running.engine.model_info.classes)
    alone = [digests(running.client, request) for request in asked]
    for request, expected in zip(asked, alone):
        count, seed = draw.randint(1, MOST_COMPANY), draw.randrange(2**32)
        company = requests(count, seed, num_classes=classes, most_steps=most_steps)
        assert in_company(running.client, request, company, draw) == expected, request
    small = running.metric("dit_tick_images_bucket", le="8.0")
    assert running.metric("dit_tick_images_count") > small, "no tick held over 8 images"
    assert len({each for one in alone for each in one}) == sum(len(one) for one in alone)
    return alone


def check_a_restart_changes_no_byte(
    asked: list[dict[str, object]], expected: list[Digests], **settings: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        process(DIT_REPRODUCIBLE="true", DIT_PORT=str(port), **settings) as service,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        wait_until(lambda: answers(f"{url}/readyz", 200) or service.poll() is not None, PROCESS_S)
        assert [digests(client, request) for request in asked] == expected


def check(
    load: Callable[[], ModelRunner], *, num_classes: int, most_steps: int, **settings: str
) -> None:
    """Twenty requests: alone, among others, and in a new process with these settings."""
    asked = requests(20, 0, num_classes=num_classes, most_steps=most_steps)
    with running_service(load, limits=POLICY_HERE) as running:
        expected = check_company_changes_no_byte(running, asked, most_steps=most_steps)
    check_a_restart_changes_no_byte(asked, expected, **settings)


class BitsVae(Vae):
    """Decodes a latent to its own bits, most of which would be lost in an autoencoder's 8 bits."""

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        side = latents.shape[-1] * self.downscale_factor
        bits = latents.float().contiguous().view(torch.uint8).flatten(1)  # four bytes per number
        images = bits[:, : 3 * side * side].reshape(-1, side, side, 3)
        return images.clone(), latents.isfinite().flatten(1).all(1)


def with_bits_shown(checkpoint: Checkpoint) -> Checkpoint:
    vae = checkpoint.vae
    bits = BitsVae(
        module=vae.module,
        latent_channels=vae.latent_channels,
        downscale_factor=vae.downscale_factor,
        scaling_factor=vae.scaling_factor,
        shift_factor=vae.shift_factor,
    )
    return replace(checkpoint, vae=bits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_company_changes_no_bit_of_a_latent(pipeline_folder: Path, dtype: torch.dtype) -> None:
    def load() -> ModelRunner:
        cpu = torch.device("cpu")
        checkpoint = load_checkpoint(str(pipeline_folder), device=cpu, dtype=dtype)
        return build_runner(with_bits_shown(checkpoint), max_rows=32, reproducible=True)

    asked = requests(20, 0, num_classes=5, most_steps=8)
    with running_service(load, limits=POLICY_HERE) as running:
        check_company_changes_no_byte(running, asked, most_steps=8)


def test_a_restart_changes_no_byte(pipeline_folder: Path) -> None:
    asked = requests(20, 0, num_classes=5, most_steps=8)

    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder, reproducible=True)

    with running_service(load, limits=POLICY_HERE) as running:
        expected = [digests(running.client, request) for request in asked]
    settings = {"DIT_MODEL": str(pipeline_folder), "DIT_DTYPE": "float32"}
    check_a_restart_changes_no_byte(asked, expected, **settings)


@pytest.mark.slow
def test_the_same_bytes_of_the_bundled_model() -> None:
    check(
        lambda: load_bundled_runner(reproducible=True),
        num_classes=10,
        most_steps=40,
        DIT_DTYPE="float32",
    )


def load_on_gpu(dtype: str) -> Checkpoint:
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)  # of the engine's thread
    return load_checkpoint("bundled", device=device, dtype=getattr(torch, dtype))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_company_changes_no_bit_of_a_latent_on_a_gpu(dtype: str) -> None:
    def load() -> ModelRunner:
        return build_runner(with_bits_shown(load_on_gpu(dtype)), max_rows=32, reproducible=True)

    with running_service(load, limits=POLICY_HERE) as running:
        asked = requests(20, 0, num_classes=10, most_steps=20)
        check_company_changes_no_byte(running, asked, most_steps=20)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_bytes_on_a_gpu(dtype: str) -> None:
    def load() -> ModelRunner:
        return build_runner(load_on_gpu(dtype), max_rows=32, reproducible=True)

    settings = {"DIT_DEVICE": "cuda", "DIT_DTYPE": dtype, "DIT_MAX_ROWS": "32"}
    check(load, num_classes=10, most_steps=40, **settings)
