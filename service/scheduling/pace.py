"""Pace: how long ticks take on this device, as measured; the basis of every time estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # scheduling needs no torch
    from model.runner.runner import TickTimes

SMOOTHING = 0.05
JUMP = 4.0
"""Upper bound on how much slower a single tick may count, so that a pause of the machine hardly
changes the pace."""


class Pace:
    """A tick of r rows takes about ``scale * (base + r * per_row)`` seconds.

    Base and slope come from the warm-up; the scale follows the ticks observed since. A tick of
    fewer rows than the warm-up's least takes as long as that one.
    """

    def __init__(self, times: TickTimes, max_rows: int) -> None:
        self.max_rows = max_rows
        self._least_rows = times.least_rows
        more_rows = max(max_rows - times.least_rows, 1)
        self._per_row = max(times.full - times.one_row, 0.0) / more_rows
        self._base = max(times.one_row - times.least_rows * self._per_row, 1e-6)
        self._scale = 1.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a tick of ``rows`` rows."""
        ratio = seconds / self._unscaled(rows)
        self._scale += SMOOTHING * (min(ratio, JUMP * self._scale) - self._scale)

    def tick_seconds(self, rows: int) -> float:
        return self._scale * self._unscaled(rows)

    @property
    def longest_tick_s(self) -> float:
        return self.tick_seconds(self.max_rows)

    def seconds_for(self, row_steps: int) -> float:
        """The time to work off ``row_steps`` in full ticks."""
        return row_steps / self.max_rows * self.longest_tick_s

    def _unscaled(self, rows: int) -> float:
        return self._base + max(rows, self._least_rows) * self._per_row
