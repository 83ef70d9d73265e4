"""Faults: whose they are, when something done for several images at once goes wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from model.runner.runner import OutOfMemory
from service.scheduling.jobs import Sample

Attempt = Callable[[Sequence[Sample]], Exception | None]
"""Does something for these images; returns what went wrong with all of them."""


class NotFinite(ArithmeticError):
    """An image's latent holds NaN or infinity."""


def culprits(samples: Sequence[Sample], attempt: Attempt) -> dict[Sample, Exception]:
    """Attempt it, where it fails again in halves, until whoever fails stands alone.

    Whoever is out of memory alone gets one more attempt: another program may have taken the memory
    for a moment.
    """
    fault = attempt(samples)
    if fault is not None and len(samples) > 1:
        half = len(samples) // 2
        return culprits(samples[:half], attempt) | culprits(samples[half:], attempt)
    if isinstance(fault, OutOfMemory):
        fault = attempt(samples)
    return {} if fault is None else {samples[0]: fault}


def without_frames(error: OutOfMemory) -> OutOfMemory:
    """The same, rid of the frames whose tensors it holds, so that the halves have room."""
    bare = OutOfMemory(str(error))
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at = at.__cause__ or at.__context__
    return bare
