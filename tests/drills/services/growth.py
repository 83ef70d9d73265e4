"""Growth: how much memory a service keeps for a thousand requests."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from tests.drills.services.served import MIB, Served
from tests.drills.services.trimming import trim

MOST_MIB = 1.0
"""What a thousand requests may add."""


def growth_mib(service: Served, load: Callable[[], int], *, warm_up: int, rounds: int) -> float:
    """MiB per thousand requests, as the median of rounds: a leak grows in every one of them.

    Freed memory is given back before each reading, or a leak would fill that first.

    Args:
        service: one that gives it back when told to.
        load: sends requests, and says how many.
        warm_up: rounds before the first reading, for what is made once and kept.
    """
    for _ in range(warm_up):
        load()
    grown = []
    for _ in range(rounds):
        before = _memory_in_use(service)
        sent = load()
        grown.append((_memory_in_use(service) - before) / MIB * 1000 / sent)
    return median(grown)


def _memory_in_use(service: Served) -> int:
    trim(service.url)
    return service.memory
