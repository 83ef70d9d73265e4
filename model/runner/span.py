"""Span: a piece of work on a CUDA stream, timed by the device itself."""

from __future__ import annotations

import torch

from model.device import device_faults


class Span:
    """What is launched on the current stream between the construction and `end`.

    The host's clock cannot time it, for the host runs ahead of the device.
    """

    def __init__(self) -> None:
        self._began = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # Waiting for a blocking event lets the thread sleep; for any other it spins a core.
        self._ended = torch.cuda.Event(  # type: ignore[no-untyped-call]
            enable_timing=True, blocking=True
        )
        self._began.record()

    def end(self) -> None:
        """The work ends with what has been launched so far."""
        self._ended.record()

    @property
    @device_faults()
    def done(self) -> bool:
        return bool(self._ended.query())  # type: ignore[no-untyped-call]

    @device_faults()
    def wait(self) -> None:
        """Wait until the work is done.

        Raises:
            DeviceLost: the device is gone.
        """
        self._ended.synchronize()

    @property
    @device_faults()
    def seconds(self) -> float:
        """The time that the work took on the device; it must be done."""
        milliseconds: float = self._began.elapsed_time(self._ended)
        return milliseconds / 1e3
