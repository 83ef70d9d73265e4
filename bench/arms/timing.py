"""Timing: the mean time of a piece of work, over enough repeats to hide the clock's noise."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

LONG_ENOUGH_S = 0.1
MAX_REPEATS = 200


def mean_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds per run, after one warm-up run."""
    _seconds(work, 1, device)
    once = _seconds(work, 1, device)
    repeats = min(MAX_REPEATS, round(LONG_ENOUGH_S / once))
    return once if repeats <= 1 else _seconds(work, repeats, device)


def _seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / repeats
