"""Heartbeat: when the engine's thread last showed a sign of life."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

FADE = 0.99
"""What each beat leaves of the longest stretch: an exception is forgotten after some hundred beats."""


class Heartbeat:
    """The beats of one thread, on a clock that another thread, the watch, keeps going.

    The clock stands still while the whole process does (SIGSTOP, a paused virtual machine): a nap of
    the watch counts as long as it was meant to be, however late the watch wakes up. So only a
    stretch during which the watch was alive counts as silence.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._nap = 0.0, clock(), math.inf  # when it began, on both clocks, and its length
        self._last_beat = 0.0
        self.longest_s = 0.0

    def start(self) -> None:
        """Count from now on."""
        self._last_beat = self._now()

    def beat(self) -> None:
        """A sign of life."""
        now = self._now()
        self.longest_s = max(now - self._last_beat, FADE * self.longest_s)
        self._last_beat = now

    def nap(self, seconds: float) -> None:
        """The watch falls asleep and means to wake up after ``seconds``."""
        self._nap = self._now(), self._clock(), seconds

    @property
    def silence_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._now() - self._last_beat

    def _now(self) -> float:
        elapsed, began, length = self._nap
        return elapsed + min(self._clock() - began, length)
