"""ReplicaLoads: what a front knows of the work at each replica, and whom it sends a request to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from service.fleet.contention import Work, contention
from service.fleet.exchange import Load

ON_THE_WAY_S = 0.05
"""Work that was sent so shortly before a report may have been missed by it: it is added."""

NOTHING = Load(0, float("-inf"), ())


@dataclass(frozen=True, slots=True)
class Sent:
    work: Work
    at: float


@dataclass(slots=True)
class Known:
    """Of one replica: its latest report, and by request what was sent there and is unanswered."""

    load: Load = NOTHING
    sent: dict[str, Sent] = field(default_factory=dict)
    chosen: int = 0  # the number of the latest choice that fell on it

    def cost(self, request: Work) -> tuple[float, int]:
        """To a request: its contention, and all the work that is there.

        Both of what the replica reported, and of what has been sent since.
        """
        missed = self.load.at - ON_THE_WAY_S
        since = [each.work for each in self.sent.values() if each.at > missed]
        row_steps = self.load.row_steps + sum(left for left, _ in since)
        return contention(self.load.counts, request, since), row_steps


class ReplicaLoads:
    """Of one model's replicas. The front and Ray's router call it from different threads.

    Args:
        clock: Unix time, as in the replicas' reports.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._choices = 0
        self._lock = threading.Lock()

    @property
    def replicas(self) -> frozenset[str]:
        """Those of the latest choice, and those that have reported since."""
        with self._lock:
            return frozenset(self._known)

    def choose(
        self,
        replicas: Collection[str],
        request: str,
        row_steps: int,
        avoid: Collection[str] = (),
        *,
        images: int = 1,
    ) -> list[str]:
        """Rank them, and note that the request goes to the first; a later call may change that.

        First is where the request and those that are there delay each other least; of equal ones that
        with the least work, then that which was chosen longest ago. Those to avoid are last.
        """
        work = row_steps, images
        with self._lock:
            self._forget(request)
            for gone in self._known.keys() - set(replicas):
                del self._known[gone]
            for replica in replicas:
                self._known.setdefault(replica, Known())
            ranked = sorted(replicas, key=lambda replica: self._order(replica, work, avoid))
            if ranked:
                self._choices += 1
                first = self._known[ranked[0]]
                first.chosen = self._choices
                first.sent[request] = Sent(work, self._clock())
            return ranked

    def ended(self, request: str) -> None:
        """A request was answered, refused, cancelled or lost."""
        with self._lock:
            self._forget(request)

    def report(self, replica: str, load: Load) -> None:
        """A replica has told its work; older reports than the latest are ignored."""
        with self._lock:
            known = self._known.setdefault(replica, Known())
            if load.at > known.load.at:
                known.load = load

    def lose(self, replica: str) -> None:
        """A replica has died."""
        with self._lock:
            self._known.pop(replica, None)

    def _order(
        self, replica: str, work: Work, avoid: Collection[str]
    ) -> tuple[bool, tuple[float, int], int]:
        known = self._known[replica]
        return replica in avoid, known.cost(work), known.chosen

    def _forget(self, request: str) -> None:
        for known in self._known.values():
            known.sent.pop(request, None)


def load_of(stats: Mapping[str, object]) -> Load | None:
    """A replica's report out of its routing statistics; None if there is none yet."""
    row_steps, at, counts = (stats.get(name) for name in ("row_steps", "at", "counts"))
    if isinstance(row_steps, int) and isinstance(at, float) and isinstance(counts, tuple):
        return Load(row_steps, at, counts)
    return None


def stats_of(load: Load) -> dict[str, object]:
    """A report as routing statistics."""
    return {"row_steps": load.row_steps, "at": load.at, "counts": load.counts}
