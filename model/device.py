"""The device: choosing it and a dtype, and what can go wrong with it, as our own exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def choose_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device, or the CPU where there is none.

    A CUDA device becomes the calling thread's current one: events and pinned memory follow that.

    Raises:
        ValueError: the device is not there.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name} is not there: torch {torch.__version__} sees"
            f" {torch.cuda.device_count()} CUDA devices"
        )
    if device.type == "cuda":
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
    """Whether this CPU has instructions for it (AVX512-BF16 or AMX): about twice fp32's speed."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class DeviceLost(RuntimeError):
    """The device answers no more; nothing on it can be trusted or retried."""


class OutOfMemory(RuntimeError):
    """The device's memory did not suffice; the same with fewer images may."""


@contextmanager
def device_faults() -> Iterator[None]:
    """Raise torch's exceptions about the device as ours.

    Raises:
        OutOfMemory: of memory.
        DeviceLost: of anything else.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except torch.AcceleratorError as error:
        raise DeviceLost(str(error)) from error
