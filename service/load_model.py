"""Load the configured model onto the configured device."""

from __future__ import annotations

import structlog
import torch

from model.device import choose_device, choose_dtype, device_faults
from model.runner.build import build_runner
from model.runner.runner import ModelRunner
from model.weights.checkpoint import load_checkpoint
from service.settings import Settings

MAX_ROWS = {"cuda": 128, "cpu": 32}


@device_faults()
def load_runner(settings: Settings) -> ModelRunner:
    """Build the runner that the settings describe.

    Raises:
        ValueError: the device does not exist or cannot be used, or a file is invalid.
        OutOfMemory: the device's memory is full.
        DeviceLost: the device failed.
    """
    log = structlog.get_logger()
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
        report=log.info,
    )
    return build_runner(
        checkpoint,
        max_rows=settings.max_rows or MAX_ROWS[device.type],
        reproducible=settings.reproducible,
        compile=settings.compile,
        consume=True,
        report=structlog.get_logger().info,
    )


def round_threads() -> None:
    """Round torch's number of threads down to a power of two.

    torch splits an elementwise operation into one chunk per thread, and the last bit of a result
    can depend on its place in the chunk, so chunks have to begin and end between images.
    """
    torch.set_num_threads(1 << (torch.get_num_threads().bit_length() - 1))
