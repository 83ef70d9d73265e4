"""VirtualTime: the clock by which requests would end if all of them shared the device at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import NamedTuple


class Share(NamedTuple):
    """A request's part in the sharing, until the clock shows ``finish``."""

    finish: float
    weight: float
    client: str


class VirtualTime:
    """Weighted processor sharing, reckoned beside the real order (Demers, Keshav, Shenker 1989).

    Under it all work is split over those who are in, in proportion to their weights. The clock
    moves by the work served over the sum of the weights, so whoever comes at time v with work w
    and weight g is through at v + w / g, whoever comes later. The n-th request that a client has
    in at once has weight 1 / n; those count that sharing would still be serving, so that a client
    gains nothing by sending small ones one after the other.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._weight = 0.0
        self._sharing: list[Share] = []  # the first to finish first
        self._requests: Counter[str] = Counter()  # of each client

    def admit(self, work: float, client: str) -> Share:
        self._requests[client] += 1
        count = self._requests[client]
        share = Share(self.now + work * count, 1.0 / count, client)
        insort(self._sharing, share)
        self._weight += share.weight
        return share

    def forget(self, share: Share) -> None:
        """Take back a share whose work is no longer wanted."""
        at = bisect_left(self._sharing, share)
        if at < len(self._sharing) and self._sharing[at] == share:
            self._remove(at)

    def advance(self, work: float) -> None:
        """So much work was served; past the last one's finish the clock stands still."""
        while self._sharing:
            first = self._sharing[0]
            needed = (first.finish - self.now) * self._weight
            if work < needed:
                self.now += work / self._weight
                return
            work -= needed
            self.now = first.finish
            self._remove(0)

    def reset(self) -> None:
        """Nobody is in."""
        self.now = self._weight = 0.0
        self._sharing.clear()
        self._requests.clear()

    def _remove(self, at: int) -> None:
        share = self._sharing.pop(at)
        self._requests[share.client] -= 1
        if not self._requests[share.client]:
            del self._requests[share.client]
        self._weight = self._weight - share.weight if self._sharing else 0.0
