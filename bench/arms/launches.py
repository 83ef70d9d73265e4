"""Launches: how many kernels a piece of work runs on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

COPIES = ("Memcpy", "Memset")


class Event(Protocol):
    """What torch's profiler says of one activity."""

    name: str
    device_type: DeviceType


def kernels_of(work: Callable[[], object], device: torch.device) -> int | None:
    """The kernels that the work runs, those of a graph one by one; None if they cannot be counted.

    That is so on a CPU, and where the driver does not let torch's profiler see them.
    """
    if device.type != "cuda":
        return None
    try:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            work()
            torch.cuda.synchronize(device)
        return count_kernels(seen.events()) or None
    except RuntimeError:
        return None


def count_kernels(events: Iterable[Event]) -> int:
    """Activities of the device that are no copies."""
    return sum(
        each.device_type == DeviceType.CUDA and not each.name.startswith(COPIES) for each in events
    )
