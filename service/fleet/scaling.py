"""Scaling: how many replicas the work asks for."""

from __future__ import annotations

from collections.abc import Iterable


def replicas_for(row_steps: Iterable[float], target_row_steps: int) -> float:
    """The replicas that would have ``target_row_steps`` of work each, as a fraction.

    Args:
        row_steps: the work at each replica.
    """
    return sum(row_steps) / target_row_steps
