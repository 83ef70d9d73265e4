"""Accelerator: what a runner asks of a CUDA device. On the CPU there is nothing to do."""

from __future__ import annotations

import torch


def own_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A new stream; None on the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished everything launched so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_bytes(device: torch.device) -> dict[str, int]:
    """Device memory by kind; empty on the CPU."""
    if device.type != "cuda":
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "total": torch.cuda.get_device_properties(device).total_memory,
    }


def release_cached_memory(device: torch.device) -> None:
    """Return unused memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
