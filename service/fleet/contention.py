"""Contention: by how much a new request and those at a replica would delay each other.

Under fair sharing (processor sharing, Kleinrock 1967) two requests each get half of the device until the
smaller is done, so that each ends later by what was left of the smaller. The service's scheduler lets the
smaller go first; then the larger ends later by as much, and the smaller on time. Either way the cost of
putting a request of work w beside others is the sum of min(left, w) over them: to a small request it
matters how many there are, to a large one how much is left of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

Counts = tuple[int, ...]
"""Of requests, by the power of two of what is left of them: at k those with 2**k row-steps or more, and
fewer than 2**(k + 1)."""

MIDDLE = 1.5
"""Times 2**k: what is taken to be left of a request that is counted at k."""


def counts_of(left: Iterable[int]) -> Counts:
    """Count requests by the row-steps left of them. Those with none left are in nobody's way."""
    of_bits = Counter(map(int.bit_length, left))
    return tuple(of_bits[bits] for bits in range(1, max(of_bits, default=0) + 1))


def contention(counts: Counts, row_steps: int, others: Iterable[int] = ()) -> float:
    """The row-steps by which a request of so many and those that are counted delay each other.

    Args:
        others: the row-steps of requests that are there beside those that are counted.
    """
    counted = sum(number * min(MIDDLE * (1 << k), row_steps) for k, number in enumerate(counts))
    return counted + sum(min(each, row_steps) for each in others)
