"""Judge: whether a series is flat, grows, or is too short or too noisy to tell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

BLOCKS = 8
"""Neighbouring samples depend on each other; the means of as many long blocks hardly do."""

T_95 = 2.447
"""Student's t for a two-sided interval of 95 %, with `BLOCKS` - 2 degrees of freedom."""

WARM_UP = 1 / 3
"""The part of a series that is left out: caches fill and the allocator takes its share."""

LEAST_SAMPLES = 3 * BLOCKS

Verdict = Literal["flat", "grows", "unsure"]


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through a series: its slope, the half-width of the slope's 95 % interval, and
    the series' mean."""

    slope: float
    error: float
    mean: float

    def verdict(self, allowed: float) -> Verdict:
        """Flat only if the whole interval of the slope is at most ``allowed``."""
        if self.slope + self.error <= allowed:
            return "flat"
        return "grows" if self.slope - self.error > allowed else "unsure"


def trend(x: Sequence[float], y: Sequence[float]) -> Trend:
    """The least-squares line through the means of blocks, after the warm-up.

    Args:
        x: ascending, such as the requests answered so far.
        y: as many values.

    Raises:
        ValueError: fewer than `LEAST_SAMPLES` samples are left, or ``x`` stands still.
    """
    begin = math.ceil(len(x) * WARM_UP)
    xs, ys = _block_means(x[begin:]), _block_means(y[begin:])
    middle_x, middle_y = fmean(xs), fmean(ys)
    spread = sum((each - middle_x) ** 2 for each in xs)
    if spread == 0:
        raise ValueError("nothing happened between the samples")
    slope = sum((a - middle_x) * (b - middle_y) for a, b in zip(xs, ys)) / spread
    residuals = [b - middle_y - slope * (a - middle_x) for a, b in zip(xs, ys)]
    variance = sum(each**2 for each in residuals) / (BLOCKS - 2)
    return Trend(slope, T_95 * math.sqrt(variance / spread), middle_y)


def _block_means(values: Sequence[float]) -> list[float]:
    if len(values) < LEAST_SAMPLES:
        raise ValueError(f"{len(values)} samples after the warm-up, but {LEAST_SAMPLES} are needed")
    edges = [len(values) * i // BLOCKS for i in range(BLOCKS + 1)]
    return [fmean(values[a:b]) for a, b in itertools.pairwise(edges)]
