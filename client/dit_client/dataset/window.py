"""Window: how many requests to keep in flight, found out while they run.

More requests in flight fill the service's batches; beyond that they only wait longer. So the window grows
as long as the rate of finished pictures grows with it, and looks now and then whether that has changed.
A refusal (429) makes it smaller at once, and from then on it grows by one at a time, as TCP's does.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_WINDOW = 4

GAIN = 1.08
"""A larger window has to bring this much more pictures per second, to be worth it."""

SHRINK = 0.7
PROBE_ROUNDS = 12
PROBE = 1.25
SHORTEST_ROUND = 8  # pictures: fewer say little about a rate


@dataclass(slots=True, eq=False)
class Window:
    """Requests to have in flight, at most ``limit``. Times are in seconds on any clock.

    A round lasts until as many pictures are finished as the window is large. ``trial`` says that this
    round's window is larger than the best so far, ``slow`` that it grows by one rather than by factors.
    """

    most: int = 256
    limit: int = FIRST_WINDOW
    trial: bool = True
    slow: bool = False
    _best: int = 0
    _best_rate: float = 0.0
    _finished: int = 0
    _round_began: float | None = None
    _rounds: int = 0
    _shrunk_at: float = float("-inf")

    def started(self, now: float) -> None:
        """A request is sent."""
        if self._round_began is None:
            self._round_began = now

    def finished(self, now: float) -> None:
        """A picture has come."""
        self._finished += 1
        if self._finished < max(self.limit, SHORTEST_ROUND) or self._round_began is None:
            return
        rate = self._finished / max(now - self._round_began, 1e-9)
        self._finished, self._round_began = 0, now
        self._end_round(rate)

    def refused(self, sent: float, now: float) -> None:
        """A request that was sent at this time got a 429. Of those sent before the window shrank the last
        time only the first counts: they all met the same full queue."""
        if sent < self._shrunk_at:
            return
        self._shrunk_at = now
        self.limit = max(1, int(self.limit * SHRINK))
        self.trial, self.slow = False, True
        self._settle(0.0, now)

    def restart(self, now: float) -> None:
        """The service is another process: what was found out may not hold."""
        self.limit, self.trial, self.slow = min(self.limit, FIRST_WINDOW), True, False
        self._settle(0.0, now)

    def _end_round(self, rate: float) -> None:
        self._rounds += 1
        if self.trial:
            self._judge(rate)
        elif self._rounds >= PROBE_ROUNDS or (self.slow and self._rounds >= 2):
            self._best, self._best_rate = self.limit, rate
            self._try(self.limit + 1 if self.slow else self.limit * PROBE)

    def _judge(self, rate: float) -> None:
        """Keep the larger window and try one that is larger still, or go back."""
        needed = 1.0 if self.slow else GAIN
        if self._best and rate < self._best_rate * needed:
            self.limit, self.trial, self._rounds = self._best, False, 0
            self.slow = False
            return
        self._best, self._best_rate = self.limit, rate
        self._try(self.limit + 1 if self.slow else self.limit * 2)

    def _try(self, limit: float) -> None:
        self._rounds = 0
        self.trial = int(limit) <= self.most
        self.limit = min(self.most, max(int(limit), self.limit + 1))

    def _settle(self, rate: float, now: float) -> None:
        self._best, self._best_rate = self.limit if rate else 0, rate
        self._finished, self._round_began, self._rounds = 0, now, 0
