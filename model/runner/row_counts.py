"""RowCounts: the row counts at which forward passes are run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Padding = Literal["none", "to a power of two", "full"]


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows a tick runs for the rows it needs, of which there are at most ``max_rows``."""

    max_rows: int
    padding: Padding

    def padded(self, rows: int) -> int:
        """The row count at which a tick of ``rows`` rows is run."""
        if self.padding == "none":
            return rows
        if self.padding == "full":
            return self.max_rows
        return min(self.max_rows, 1 << (rows - 1).bit_length())

    def to_warm_up(self) -> list[int]:
        """Row counts to run once before the first image, ascending: with padding, all there are."""
        if self.padding == "none":
            return [1, self.max_rows]
        if self.padding == "full":
            return [self.max_rows]
        return [*(1 << i for i in range((self.max_rows - 1).bit_length())), self.max_rows]
