"""Growth: how much memory a service keeps for a thousand requests."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from tests.drills.services.served import MIB, Served

MOST_MIB = 1.0
"""What a thousand requests may add."""


def growth_mib(service: Served, load: Callable[[], int], *, warm_up: int, rounds: int) -> float:
    """MiB per thousand requests, as the median of rounds: a leak grows in every one of them.

    Args:
        load: sends requests, and says how many.
        warm_up: rounds before the first reading, for what is made once and kept.
    """
    for _ in range(warm_up):
        load()
    grown = []
    for _ in range(rounds):
        before = service.memory
        sent = load()
        grown.append((service.memory - before) / MIB * 1000 / sent)
    return median(grown)
