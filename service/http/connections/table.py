"""ConnectionTable: every open connection, and which ones make room when there are too many."""

from __future__ import annotations

from typing import Protocol

SPARE = 8
"""Connections beyond the limit. Their requests get 503, but probes are answered."""

MAX_UNSENT = 512 << 20
"""Bytes of ready answers that all clients together may leave untaken."""


class Member(Protocol):
    """A connection, as the table sees it."""

    @property
    def unsent(self) -> int:
        """Bytes of an answer that the client has not taken."""

    def give_way(self) -> None:
        """Close, for the sake of others."""

    def cut(self) -> None:
        """Close at once, whatever is under way."""

    def give_up(self) -> None:
        """Close at once, because its client takes an answer too slowly."""


class ConnectionTable:
    """Beyond ``limit``, the connection that has waited longest for its client gives way.

    Args:
        limit: connections at once, without the spare ones.
        max_unsent: bytes of ready answers, over all connections. Beyond it, the client that has been
            taking one for longest loses it.
    """

    def __init__(self, limit: int, max_unsent: int = MAX_UNSENT) -> None:
        self.limit = limit
        self._max_unsent = max_unsent
        self._members: set[Member] = set()
        self._waiting: dict[Member, None] = {}  # in the order in which they began to
        self._sending: dict[Member, None] = {}  # likewise

    @property
    def crowded(self) -> bool:
        """Whether there are more connections than the limit."""
        return len(self._members) > self.limit

    def enter(self, member: Member) -> bool:
        """Take a new connection in; False if it had to be cut."""
        full = len(self._members) >= self.limit and not self.make_room()
        if full and len(self._members) >= self.limit + SPARE:
            member.cut()
            return False
        self._members.add(member)
        return True

    def leave(self, member: Member) -> None:
        """The connection is closed."""
        self._members.discard(member)
        self._waiting.pop(member, None)
        self._sending.pop(member, None)

    def waits(self, member: Member) -> None:
        """The client's turn: no request of its is complete and unanswered."""
        if member in self._members:
            self._waiting.setdefault(member)

    def works(self, member: Member) -> None:
        """Our turn: a request is complete."""
        self._waiting.pop(member, None)

    def sends(self, member: Member) -> None:
        """Part of an answer is ready that the client has not taken."""
        if member in self._members:
            self._sending.setdefault(member)
        unsent = {each: each.unsent for each in self._sending}
        self._sending = {each: None for each, size in unsent.items() if size}
        excess = sum(unsent.values()) - self._max_unsent
        for each in [*self._sending]:
            if excess <= 0:
                break
            excess -= unsent[each]
            self.leave(each)
            each.give_up()

    def make_room(self) -> bool:
        """Close one waiting connection, if there is any."""
        longest = next((each for each in self._waiting if not each.unsent), None)
        if longest is None:
            return False
        self.leave(longest)
        longest.give_way()
        return True
