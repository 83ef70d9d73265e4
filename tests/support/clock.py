"""Clock: a clock that moves when the test says so."""

from __future__ import annotations


class Clock:
    """Called as `time.monotonic` is; set ``now`` to move it."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
