"""VirtualTime: when requests would finish if all of them shared the device at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from typing import NamedTuple


class Share(NamedTuple):
    """A request's share, until the clock reaches ``finish``."""

    finish: float
    weight: float
    client: str


class VirtualTime:
    """The clock of weighted processor sharing (Demers, Keshav, Shenker 1989).

    Sharing splits all work done between the open requests in proportion to their weights. The
    clock moves by the work done over the sum of the weights, so a request that arrives at time v with work w and weight g finishes at v + w / g, whatever comes later. A client's n-th
    concurrent request has weight 1 / n. Requests count as concurrent for as long as sharing would
    still be serving them, so a client gains nothing by sending small ones one after the other.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._weight = 0.0
        self._sharing: list[Share] = []  # the first to finish comes first
        self._requests: Counter[str] = Counter()  # by client

    def admit(self, work: float, client: str) -> Share:
        """Give a request of ``work`` a share from now on."""
        self._requests[client] += 1
        count = self._requests[client]
        share = Share(self.now + work * count, 1.0 / count, client)
        insort(self._sharing, share)
        self._weight += share.weight
        return share

    def forget(self, share: Share) -> None:
        """Withdraw the share of a dropped request; it may have finished already."""
        at = bisect_left(self._sharing, share)
        if at < len(self._sharing) and self._sharing[at] == share:
            self._remove(at)

    def refund(self, share: Share, work: float) -> None:
        """A request has ended with so much less work than admitted."""
        at = bisect_left(self._sharing, share)
        if work and at < len(self._sharing) and self._sharing[at] == share:
            del self._sharing[at]
            finish = max(share.finish - work / share.weight, self.now)
            insort(self._sharing, share._replace(finish=finish))

    def advance(self, work: float) -> None:
        """Account for work done. After the last finish the clock stops."""
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
        """Start over, with no open request."""
        self.now = self._weight = 0.0
        self._sharing.clear()
        self._requests.clear()

    def _remove(self, at: int) -> None:
        share = self._sharing.pop(at)
        self._requests[share.client] -= 1
        if not self._requests[share.client]:
            del self._requests[share.client]
        self._weight = self._weight - share.weight if self._sharing else 0.0
