"""Turns: when those that were refused may come back, one after the other, at the pace of the work."""

from __future__ import annotations

from collections import Counter, deque
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


@dataclass(slots=True, eq=False)
class Turn:
    """A client may come from ``at`` on, and is waited for until ``until``.

    ``place`` counts the turns that the client had, with this one.
    """

    client: str
    row_steps: int
    place: int
    at: float
    until: float
    used: bool = False


class Turns:
    """A queue of those that are not in the queue: without it, all come back at once, and again.

    A client's n-th turn comes after every other client's n-th, so one that asks a lot delays itself.
    A turn that nobody uses is dropped after twice its wait; the share of those that are used says
    how many of the turns before it a new one has to wait for.
    """

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque()  # about in the order in which they end
        self._of_client: dict[str, deque[Turn]] = {}
        self._row_steps: Counter[int] = Counter()  # by place
        self._kept = 1.0  # the share of turns that are used, lately

    def work_of_others(self, client: str, now: float) -> int:
        """The row-steps for which anybody else is expected."""
        while self._turns and (self._turns[0].used or self._turns[0].until < now):
            turn = self._turns.popleft()
            if not turn.used:
                self._end(turn, kept=0.0)
        own = sum(turn.row_steps for turn in self._of_client.get(client, ()))
        return self._row_steps.total() - own

    def come(self, client: str, now: float) -> bool:
        """Whether it is this client's turn."""
        own = self._of_client.get(client)
        return own is not None and own[0].at <= now <= own[0].until

    def use(self, client: str) -> None:
        """The client is let in. If it was expected, it is so no more."""
        own = self._of_client.get(client)
        if own:
            own[0].used = True
            self._end(own[0], kept=1.0)

    def give(
        self,
        client: str,
        row_steps: int,
        now: float,
        room_s: float,
        seconds_for: Callable[[int], float],
    ) -> float:
        """Give a turn for this much work; returns the seconds until then.

        Args:
            room_s: how long it would have to wait for room if it were the next.
            seconds_for: how long an amount of work takes.
        """
        place = len(self._of_client.get(client, ())) + 1
        before = sum(self._row_steps[each] for each in range(1, min(place, MOST_OF_A_CLIENT) + 1))
        wait_s = min(LONGEST_S, room_s + max(self._kept, LEAST_KEPT) * seconds_for(before))
        if place <= MOST_OF_A_CLIENT and len(self._turns) < MOST:
            until = now + wait_s + max(wait_s, LEAST_GRACE_S)
            turn = Turn(client, row_steps, place, now + wait_s, until)
            self._turns.append(turn)
            self._of_client.setdefault(client, deque()).append(turn)
            self._row_steps[place] += row_steps
        return wait_s

    def postpone(
        self,
        client: str,
        row_steps: int,
        now: float,
        room_s: float,
        seconds_for: Callable[[int], float],
    ) -> float:
        """The same for a client that has come in its turn, and there is no room: after those that are due."""
        due = sum(each.row_steps for each in self._turns if each.at <= now and not each.used)
        turn = self._of_client[client][0]
        wait_s = min(LONGEST_S, room_s + seconds_for(due - turn.row_steps))
        turn.at, turn.until = now + wait_s, now + wait_s + max(wait_s, LEAST_GRACE_S)
        return wait_s

    def _end(self, turn: Turn, kept: float) -> None:
        self._kept += SMOOTHING * (kept - self._kept)
        self._row_steps[turn.place] -= turn.row_steps
        own = self._of_client[turn.client]
        own.remove(turn)
        if not own:
            del self._of_client[turn.client]
