"""Observed: a real device for the simulation: its curve, and how fast it was from second to second."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from bench.load.stretches import Stretch
from bench.simulate.curve import TickCurve
from bench.simulate.engine import Slowness


def observed_curve(stretches: Sequence[Stretch], *, images: int, max_rows: int) -> TickCurve:
    """The straight line nearest to the ticks of these stretches, in which so many images were decoded.

    A tick's seconds include the host's work around it, as found in the busy stretches.
    """
    counts = np.array([(each.ticks, each.rows) for each in stretches])
    seconds = np.array([each.tick_s for each in stretches])
    base_s, row_s = np.linalg.lstsq(counts, seconds, rcond=None)[0]
    if base_s < 0:  # too few stretches to tell
        base_s, row_s = 0.0, seconds.sum() / counts[:, 1].sum()
    base_s += _host_seconds_of_a_tick(stretches)
    points = tuple((rows, float(base_s + rows * row_s)) for rows in (1, max_rows))
    decode_s = sum(each.decode_s for each in stretches) / images
    return TickCurve("observed", max_rows, points, decode_s)


def observed_slowness(stretches: Sequence[Stretch], curve: TickCurve, since: float) -> Slowness:
    """How much longer than by the curve ticks took, stretch by stretch; time counts from ``since``."""
    host_s = _host_seconds_of_a_tick(stretches)
    ends = [each.ended - since for each in stretches]
    factors = [
        (each.tick_s / each.ticks + host_s) / curve.seconds(each.rows / each.ticks)
        if each.ticks
        else 1.0
        for each in stretches
    ]

    def slowness(at: float) -> float:
        return factors[min(bisect_right(ends, at), len(factors) - 1)]

    return slowness


def _host_seconds_of_a_tick(stretches: Sequence[Stretch]) -> float:
    busy = [each for each in stretches if each.busy]
    ticks = sum(each.ticks for each in busy)
    return sum(each.host_s for each in busy) / ticks if ticks else 0.0
