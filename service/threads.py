"""Threads: how torch's threads wait for work. Has to be set before torch is loaded."""

from __future__ import annotations

import os

OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
"""Threads that spin for ever between two products starve a busy machine; threads that sleep at once
double the time of a small tick. Spinning for a fraction of a millisecond does neither."""


def configure_openmp() -> None:
    """Set what the environment leaves open."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
