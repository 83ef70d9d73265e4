"""TickLog: the ticks that are queued on the device, and how long the finished ones took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from model.runner.span import Span

TICKS_AHEAD = 2
"""Ticks that may be on a CUDA stream before the host waits: one that runs and one that follows it at
once. With one alone the device would wait for every launch."""

KEPT = 1024
"""Finished ticks kept for a caller of `finished`; without one the oldest are forgotten."""


class FinishedTick(NamedTuple):
    """The rows of a tick, including padding, and the seconds that it took on its device."""

    rows: int
    seconds: float


class TickLog:
    """Ticks in the order of their launch: on CUDA queued at first, on the CPU finished at once."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._queued: deque[tuple[int, Span]] = deque()
        self._finished: deque[FinishedTick] = deque(maxlen=KEPT)

    def wait_for_room(self) -> None:
        """Wait until another tick may be queued."""
        if len(self._queued) >= TICKS_AHEAD:
            self._queued[0][1].wait()
            self._pop()

    @contextmanager
    def timing(self, rows: int) -> Iterator[None]:
        """Log what the block launches as one tick, unless it raises."""
        if self._on_cuda:
            span = Span()
            yield
            span.end()
            self._queued.append((rows, span))
        else:
            began = time.perf_counter()
            yield
            self._finished.append(FinishedTick(rows, time.perf_counter() - began))

    def finished(self) -> list[FinishedTick]:
        """The ticks that have finished since the last call; waits for none."""
        while self._queued and self._queued[0][1].done:
            self._pop()
        finished = list(self._finished)
        self._finished.clear()
        return finished

    def clear(self) -> None:
        """Forget all ticks."""
        self._queued.clear()
        self._finished.clear()

    def _pop(self) -> None:
        rows, span = self._queued.popleft()
        self._finished.append(FinishedTick(rows, span.seconds))
