"""RowLimit: the most rows that a tick may have; an out-of-memory lowers it for a while."""

from __future__ import annotations

LEAST_ROWS = 2  # what a guided image takes
RECOVERY_TICKS = 50
"""Full ticks that have to succeed before the limit doubles again."""


class RowLimit:
    """Halves after an out-of-memory and recovers step by step, up to ``max_rows``."""

    def __init__(self, max_rows: int) -> None:
        self.rows = max_rows
        self._max_rows = max_rows
        self._successes = 0

    def shrink(self, rows: int) -> None:
        """A tick of ``rows`` rows did not fit into memory."""
        least = min(LEAST_ROWS, self._max_rows)
        self.rows = max(least, min(self.rows, rows // 2))
        self._successes = 0

    def succeeded(self, rows: int) -> None:
        """A tick of ``rows`` rows fit. One below the limit counts as full: guided images take two."""
        if self.rows == self._max_rows or rows < self.rows - 1:
            return
        self._successes += 1
        if self._successes == RECOVERY_TICKS:
            self.rows = min(2 * self.rows, self._max_rows)
            self._successes = 0
