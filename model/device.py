"""The device: choosing it and a dtype, and its faults as our own exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device; a CUDA one has an index.

    ``auto`` is the first CUDA device, or the CPU if there is none; ``cuda`` is the current CUDA
    device. The chosen CUDA device becomes the calling thread's current one, which events and pinned
    memory follow.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"no device {name}: torch {torch.__version__} sees"
            f" {torch.cuda.device_count()} CUDA devices"
        )
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    torch.cuda.set_device(device)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on CUDA and on a CPU with bfloat16 products, else float32."""
    if name == "auto":
        halves = device.type == "cuda" or (device.type == "cpu" and cpu_multiplies_bfloat16())
        return torch.bfloat16 if halves else torch.float32
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return dtypes[name]


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has bfloat16 products (AVX512-BF16 or AMX), about twice as fast as fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class DeviceLost(RuntimeError):
    """The device no longer responds; nothing on it can be trusted or retried."""


class OutOfMemory(RuntimeError):
    """Not enough device memory; the same with fewer images may succeed."""


@contextmanager
def device_faults() -> Iterator[None]:
    """Turn torch's exceptions about the device into ours.

    Raises:
        OutOfMemory: for torch.OutOfMemoryError.
        DeviceLost: for any other torch.AcceleratorError.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except torch.AcceleratorError as error:
        raise DeviceLost(str(error)) from error
