"""DrainRate: how fast work leaves the queue, for whatever reason."""

from __future__ import annotations

WINDOW_S = 1.0
SMOOTHING = 0.3


class DrainRate:
    """Measured while there is work. A tick's time alone would leave out decoding and what else there is."""

    def __init__(self) -> None:
        self._row_steps_per_s = 0.0
        self._began: float | None = None
        self._left = 0

    def observe(self, row_steps: int, now: float, *, idle: bool) -> None:
        """So many row-steps have left; ``idle``: they were the last."""
        if self._began is None:
            self._began, self._left = now, 0  # what left in no time says nothing
        else:
            self._left += row_steps
        elapsed = now - self._began
        if elapsed >= WINDOW_S:
            rate = self._left / elapsed
            weight = SMOOTHING if self._row_steps_per_s else 1.0
            self._row_steps_per_s += weight * (rate - self._row_steps_per_s)
            self._began, self._left = now, 0
        if idle:
            self._began = None

    def seconds_for(self, row_steps: int) -> float | None:
        """How long it takes until this much work has left; None if nothing was measured yet."""
        return row_steps / self._row_steps_per_s if self._row_steps_per_s else None
