"""Pace: how long ticks and decodes take on this device, as measured; the basis of all estimates."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # scheduling needs no torch
    from model.runner.runner import TickTimes

SMOOTHING = 0.05
JUMP = 4.0
"""Upper bound on how much slower a single tick may count, so that a pause of the machine hardly
changes the pace."""

RECENT_TICKS = 64
RECENT_DECODES = 15
SURE_TICKS = 4
SURE_DECODES = 3
"""What has to be measured before a lower bound is sure."""


class Pace:
    """A tick of r rows takes about ``scale * (base + r * per_row)`` seconds.

    Base and slope come from the warm-up; the scale follows the ticks observed since. A tick of
    fewer rows than the warm-up's least takes as long as that one. Decodes scale as ticks do.

    One thread observes; any may ask.
    """

    def __init__(self, times: TickTimes, max_rows: int) -> None:
        self.max_rows = max_rows
        self._least_rows = times.least_rows
        more_rows = max(max_rows - times.least_rows, 1)
        self._per_row = max(times.full - times.one_row, 0.0) / more_rows
        self._base = max(times.one_row - times.least_rows * self._per_row, 1e-6)
        self._scale = self._fastest = 1.0
        self.sure = False  # whether a few ticks were measured since the device was last idle
        self._ticks: deque[float] = deque(maxlen=RECENT_TICKS)  # their scales
        self._least_scale = self._scale  # of these
        self._decodes: deque[float] = deque(maxlen=RECENT_DECODES)  # unscaled seconds per image
        self._decode, self._least_decode = times.decode, 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a tick of ``rows`` rows."""
        scale = seconds / self._unscaled(rows)
        self._scale += SMOOTHING * (min(scale, JUMP * self._scale) - self._scale)
        self._fastest = min(self._fastest, scale)
        self._ticks.append(scale)
        self._least_scale = min(self._ticks)
        self.sure = len(self._ticks) >= SURE_TICKS

    def observe_decode(self, images: int, seconds: float) -> None:
        """Learn from a pass of the decoder."""
        self._decodes.append(seconds / images / self._scale)
        self._decode = median(self._decodes)
        self._least_decode = min(self._decodes) if len(self._decodes) >= SURE_DECODES else 0.0

    def rest(self) -> None:
        """The device has nothing left to do. What it can do next is measured anew."""
        self._ticks.clear()
        self.sure = False

    def tick_seconds(self, rows: int) -> float:
        return self._scale * self._unscaled(rows)

    @property
    def decode_seconds(self) -> float:
        """Of one image; 0 if it is not known yet."""
        return self._scale * self._decode

    @property
    def decode_row_steps(self) -> int:
        """The row-steps of full ticks that take as long as the decode of an image."""
        return round(self.decode_seconds / self.longest_tick_s * self.max_rows)

    @property
    def longest_tick_s(self) -> float:
        return self.tick_seconds(self.max_rows)

    @property
    def longest_stretch_s(self) -> float:
        """The longest that the device works on one thing."""
        return max(self.longest_tick_s, self.decode_seconds)

    def rows_at(self, efficiency: float) -> int:
        """The fewest rows of a tick that does at least this fraction of a full one's rows per second."""
        enough = efficiency / self.longest_tick_s * self.max_rows
        rows = range(self._least_rows, self.max_rows)
        return next(
            (each for each in rows if each / self.tick_seconds(each) >= enough), self.max_rows
        )

    def seconds_for(self, row_steps: int) -> float:
        """The time to work off ``row_steps`` in full ticks."""
        return row_steps / self.max_rows * self.longest_tick_s

    def least_seconds(self, ticks: float, images: int) -> float:
        """What this many small ticks in a row and these decodes take at the pace of the fastest recent tick."""
        return self._seconds(ticks, images, self._least_scale)

    def best_seconds(self, ticks: float, images: int) -> float:
        """The same at the fastest pace ever measured."""
        return self._seconds(ticks, images, self._fastest)

    def _seconds(self, ticks: float, images: int, scale: float) -> float:
        decode = self._least_decode
        return scale * max(ticks * self._unscaled(1) + decode, images * decode)

    def _unscaled(self, rows: int) -> float:
        return self._base + max(rows, self._least_rows) * self._per_row
