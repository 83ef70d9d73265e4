"""Resending: whether a request that a replica did not finish goes to another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Setback(Enum):
    """Why a replica did not finish a request."""

    LOST = "lost"
    """It died, or cannot be reached."""
    UNAVAILABLE = "unavailable"
    """It answered that it has failed, or stops."""
    FULL = "full"
    """Its queue has no room. It has not begun."""


@dataclass(slots=True)
class Resending:
    """Of one request. It is sent again at most once, and only before its deadline.

    Where a replica is full, one other is asked first; that is not counted.

    Args:
        deadline: on the clock of ``now``.
    """

    deadline: float
    tried: set[str] = field(default_factory=set)
    _resends_left: int = 1
    _others_left: int = 1

    def allows(self, setback: Setback, now: float, *, others: bool) -> bool:
        """Whether to send it again, which is counted; ``others``: whether there is another replica."""
        if now >= self.deadline:
            return False
        if setback is Setback.FULL:
            self._others_left -= 1
            return others and self._others_left >= 0
        self._resends_left -= 1
        return self._resends_left >= 0
