"""Turns: when those that were refused may come back, one after the other, at the pace of the work."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_S = 60.0
"""The longest that anybody is told to wait."""
MOST_OF_A_CLIENT = 64
MOST = 4096
"""Turns at a time; who is refused beyond these is told a time, but nothing is kept for it."""
LEAST_GRACE_S = 2.0
SMOOTHING = 0.05
LEAST_KEPT = 0.05
"""Of what is estimated, even if nobody ever comes back."""

Estimate = Callable[[int], float]
"""How many seconds it takes until so many row-steps have left the queue."""


@dataclass(slots=True, eq=False)
class Turn:
    """A client may come from ``at`` on, and is waited for until ``until``.

    ``place`` counts the turns that the client had, with this one.
    """

    client: str
    row_steps: int
    place: int
    at: float = 0.0
    until: float = 0.0

    def put_off(self, now: float, wait_s: float) -> None:
        self.at = now + wait_s
        self.until = float(math.ceil(self.at + max(wait_s, LEAST_GRACE_S)))


class Turns:
    """A queue of those that are not in the queue: without it, all come back at once, and again.

    A client's n-th turn comes after every other client's n-th, so one that asks a lot delays itself.
    A turn that nobody uses is dropped after twice its wait; the share of those that are used says
    how many of the turns before it a new one has to wait for.
    """

    def __init__(self) -> None:
        self._of_client: dict[str, list[Turn]] = {}
        self._ending: defaultdict[float, set[Turn]] = defaultdict(set)
        """By the second after which they are over."""
        self._row_steps: Counter[int] = Counter()  # by place
        self._count = 0
        self._kept = 1.0  # the share of turns that are used, lately

    def work_of_others(self, client: str, now: float) -> int:
        """The row-steps for which anybody else is expected."""
        for second in [each for each in self._ending if each < now]:
            for turn in list(self._ending[second]):
                self._end(turn, kept=0.0)
        own = sum(turn.row_steps for turn in self._of_client.get(client, ()))
        return self._row_steps.total() - own

    def come(self, client: str, now: float) -> bool:
        """Whether it is this client's turn."""
        return self._due(client, now) is not None

    def use(self, client: str, now: float) -> None:
        """The client is let in. If it was expected, it is so no more."""
        own = self._of_client.get(client)
        if own:
            self._end(self._due(client, now) or own[0], kept=1.0)

    def give(
        self, client: str, row_steps: int, now: float, room_s: float, seconds_for: Estimate
    ) -> float:
        """Give a turn for this much work; returns the seconds until then.

        Args:
            room_s: how long it would have to wait for room if it were the next.
        """
        turn = Turn(client, row_steps, len(self._of_client.get(client, ())) + 1)
        before = sum(self._row_steps[place] for place in range(1, turn.place + 1))
        wait_s = min(LONGEST_S, room_s + max(self._kept, LEAST_KEPT) * seconds_for(before))
        if turn.place <= MOST_OF_A_CLIENT and self._count < MOST:
            turn.put_off(now, wait_s)
            self._begin(turn)
        return wait_s

    def postpone(
        self, client: str, row_steps: int, now: float, room_s: float, seconds_for: Estimate
    ) -> float:
        """The same for a client that has come in its turn, and there is no room: after those that are due."""
        turn = self._due(client, now)
        assert turn is not None, "this is a bug: the client has not come in its turn"
        turns = (each for ending in self._ending.values() for each in ending)
        due = sum(each.row_steps for each in turns if each.at <= now) - turn.row_steps
        wait_s = min(LONGEST_S, room_s + seconds_for(due))
        self._unlist(turn)
        turn.put_off(now, wait_s)
        self._ending[turn.until].add(turn)
        return wait_s

    def _due(self, client: str, now: float) -> Turn | None:
        own = self._of_client.get(client, ())
        return next((turn for turn in own if turn.at <= now <= turn.until), None)

    def _begin(self, turn: Turn) -> None:
        self._of_client.setdefault(turn.client, []).append(turn)
        self._ending[turn.until].add(turn)
        self._row_steps[turn.place] += turn.row_steps
        self._count += 1

    def _end(self, turn: Turn, kept: float) -> None:
        self._kept += SMOOTHING * (kept - self._kept)
        self._row_steps[turn.place] -= turn.row_steps
        self._count -= 1
        self._unlist(turn)
        own = self._of_client[turn.client]
        own.remove(turn)
        if not own:
            del self._of_client[turn.client]

    def _unlist(self, turn: Turn) -> None:
        ending = self._ending[turn.until]
        ending.remove(turn)
        if not ending:
            del self._ending[turn.until]
