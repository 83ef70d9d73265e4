"""Load the configured model onto the configured device."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace

import structlog
import torch

from model.device import choose_device, choose_dtype, device_faults, flush_denormals
from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from model.weights.checkpoint import load_checkpoint
from model.weights.hub.download import cached_nbytes, is_hub_id
from model.weights.sources import local_path
from service.metrics import Metrics
from service.settings import Settings
from service.threads import cpu_quota

MAX_ROWS = {"cuda": 128, "cpu": 32}


@device_faults()
def load_runner(settings: Settings) -> ModelRunner:
    """Build the runner that the settings describe, in the thread that will use it.

    Raises:
        ValueError: the device does not exist or cannot be used, or a file is invalid.
        OutOfMemory: the device's memory is full.
        DeviceLost: the device failed.
    """
    flush_denormals()
    log = structlog.get_logger()
    limit_threads(cpu_quota(), log.info)
    device = choose_device(settings.device, log.warning)
    if settings.reproducible:
        round_threads()
    checkpoint = load_checkpoint(
        settings.model,
        revision=settings.revision,
        device=device,
        dtype=choose_dtype(settings.dtype, device),
        vae=settings.vae,
        classes=settings.classes,
        num_heads=settings.num_heads,
        pinned=settings.model_sha256,
        report=log.info,
    )
    if settings.model_name is not None:
        checkpoint = replace(checkpoint, name=settings.model_name)
    return build_runner(
        checkpoint,
        max_rows=settings.max_rows or MAX_ROWS[device.type],
        reproducible=settings.reproducible,
        compile=settings.compile,
        consume=True,
        report=structlog.get_logger().info,
    )


def report_download(settings: Settings, metrics: Metrics) -> None:
    """Let the metrics say how much of a model from the hub has arrived."""
    if is_hub_id(settings.model) and not local_path(settings.model).exists():
        metrics.hub_cache.set_function(lambda: cached_nbytes(settings.model))


def limit_threads(quota: float | None, report: Callable[[str], None]) -> None:
    """Give torch no more threads than whole processors in the quota, but at least one.

    More would use up the quota early in every period and wait for each other. OMP_NUM_THREADS
    takes precedence.
    """
    if quota is None or "OMP_NUM_THREADS" in os.environ:
        return
    threads = max(1, math.floor(quota))
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)
        report(f"threads: {threads}, because of a CPU quota of {quota:g}")


def round_threads() -> None:
    """Round torch's number of threads down to a power of two.

    torch splits an elementwise operation into one chunk per thread, and the last bit of a result
    can depend on its place in the chunk, so chunks have to begin and end between images.
    """
    torch.set_num_threads(1 << (torch.get_num_threads().bit_length() - 1))
