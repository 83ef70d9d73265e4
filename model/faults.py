"""Faults: what can be wrong with a device, as this project's own exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
