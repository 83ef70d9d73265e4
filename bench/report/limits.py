"""Limits: what arithmetic alone allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """Multiply-accumulates of one forward row and of decoding one image."""

    row_macs: float
    decoder_macs: float

    def row_flops(self, rows: int) -> float:
        return 2 * rows * self.row_macs

    def image_flops(self, steps: int, rows: int) -> float:
        """From noise to pixels, with ``rows`` rows a step."""
        return steps * self.row_flops(rows) + 2 * self.decoder_macs


def images_per_second(peak: float, work: Work, steps: int, rows: int = 2) -> float:
    """The limit at ``peak`` FLOP/s: nothing but products, all at the speed of the best one."""
    return peak / work.image_flops(steps, rows)
