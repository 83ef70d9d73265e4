"""RowLimit: the most rows a tick may have, which an out-of-memory lowers for a while."""

from __future__ import annotations

LEAST_ROWS = 2  # what a guided image takes
RECOVERY_TICKS = 50
"""Full ticks that have to go well before twice their rows are tried."""


class RowLimit:
    def __init__(self, max_rows: int) -> None:
        self.rows = max_rows
        self._max_rows = max_rows
        self._went_well = 0

    def shrink(self, rows: int) -> None:
        """A tick of ``rows`` rows did not fit into memory."""
        least = min(LEAST_ROWS, self._max_rows)
        self.rows = max(least, min(self.rows, rows // 2))
        self._went_well = 0

    def served(self, rows: int) -> None:
        """A tick of ``rows`` rows did fit; one short of the limit is full for a guided image."""
        if self.rows == self._max_rows or rows < self.rows - 1:
            return
        self._went_well += 1
        if self._went_well == RECOVERY_TICKS:
            self.rows = min(2 * self.rows, self._max_rows)
            self._went_well = 0
