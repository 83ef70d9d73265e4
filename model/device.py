"""Device and dtype: from their names in the settings to torch's."""

from __future__ import annotations

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
    """``auto`` is bfloat16 on CUDA and float32 on the CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return dtypes[name]
