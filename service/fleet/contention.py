"""Contention: by how much a new request and those at a replica would delay each other.

Images on one device advance side by side, and a tick takes about as long as it has rows. An image of x
row-steps and one of y are together until the shorter is done, and each ends later by the other's rows
until then: by min(x, y), as under processor sharing (Kleinrock 1967). So a request of m images and one of
n delay each other, taken together, by (m + n) * min(x, y). To a request of a short image it matters how
many images there are, to one of a long image how much is left of them, and one of many images has to go
where few are delayed by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

Work = tuple[int, int]
"""A request's row-steps, and the images that they are of: 1 or more, alike."""

Counts = tuple[tuple[int, int], ...]
"""Requests, and images of them, by the power of two of what is left of an image: at k those of 2**k
row-steps or more, and fewer than 2**(k + 1)."""

MIDDLE = 1.5
"""Times 2**k: what is taken to be left of an image that is counted at k."""


def counts_of(left: Iterable[Work]) -> Counts:
    """Count requests by what is left of them. Those with nothing left are in nobody's way."""
    requests, images = Counter[int](), Counter[int]()
    for row_steps, number in left:
        bits = (-(-row_steps // number)).bit_length()
        requests[bits] += 1
        images[bits] += number
    return tuple((requests[bits], images[bits]) for bits in range(1, max(requests, default=0) + 1))


def contention(counts: Counts, request: Work, others: Iterable[Work] = ()) -> float:
    """The row-steps by which a request and those that are counted delay each other, in all.

    Args:
        others: requests that are there beside those that are counted.
    """
    row_steps, images = request
    of_an_image = row_steps / images
    there = [(requests, number, MIDDLE * (1 << k)) for k, (requests, number) in enumerate(counts)]
    there += [(1, number, left / number) for left, number in others]
    return sum(
        (number + images * requests) * min(left_each, of_an_image)
        for requests, number, left_each in there
    )
