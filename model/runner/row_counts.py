"""RowCounts: the row counts at which forward passes are run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Padding = Literal["none", "buckets", "chunks"]

CHUNK_ROWS = 16
"""Rows of every forward pass with ``chunks``: an image alone pays for a whole one, and the smaller they
are, the less they fill the device."""

BUCKET_STEP = 8
"""Distance between buckets above two steps; up to there they are powers of two."""


def padding_for(device: torch.device, *, chunks: bool) -> Padding:
    """``chunks`` if asked for; else what suits the device: recorded ticks need few row counts."""
    if chunks:
        return "chunks"
    return "none" if device.type == "cpu" else "buckets"


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows a tick runs for the rows it needs, of which there are at most ``max_rows``.

    With ``none`` and ``buckets`` a tick is one forward pass, at one of a few row counts with
    ``buckets``. With ``chunks`` it is as many passes as needed, all of ``chunk`` rows.
    """

    max_rows: int
    padding: Padding

    @property
    def chunk(self) -> int:
        """Rows of the largest forward pass."""
        return min(CHUNK_ROWS, self.max_rows) if self.padding == "chunks" else self.max_rows

    def padded(self, rows: int) -> int:
        """The row count at which a tick of ``rows`` rows is run, in all its passes together."""
        if self.padding == "none":
            return rows
        if self.padding == "chunks":
            return _round_up(rows, self.chunk)
        return min(self.max_rows, _bucket(rows))

    def to_warm_up(self) -> list[int]:
        """Rows of the ticks to run once before the first image, ascending: with buckets, all."""
        if self.padding == "buckets":
            return sorted({self.padded(rows) for rows in range(1, self.max_rows + 1)})
        return [1, self.max_rows]

    def to_record(self) -> list[int]:
        """Row counts of the forward passes with padding, ascending."""
        return [self.chunk] if self.padding == "chunks" else self.to_warm_up()


def _bucket(rows: int) -> int:
    if rows > 2 * BUCKET_STEP:
        return _round_up(rows, BUCKET_STEP)
    return 1 << (rows - 1).bit_length()


def _round_up(rows: int, step: int) -> int:
    return -(-rows // step) * step
