"""Threads: how torch's threads wait for work. Set before torch is imported."""

from __future__ import annotations

import os

OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
"""Threads that spin until there is work starve a busy machine; threads that sleep at once double
the time of a small tick. Spinning for a fraction of a millisecond avoids both."""


def configure_openmp() -> None:
    """Set the variables that the environment does not set."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
