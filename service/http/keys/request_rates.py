"""RequestRates: how many requests each API key has left of its rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import RateLimited
from service.http.keys.api_key import ApiKey

LIMIT = "requests_per_minute"
MINUTE_S = 60.0


@dataclass(slots=True)
class TokenBucket:
    """Holds at most a minute's tokens, full at first, and fills evenly."""

    tokens: float
    filled_at: float

    def take(self, per_minute: int, now: float) -> float:
        """Take a token; the seconds until there is one, 0.0 if it was taken."""
        came = max(0.0, now - self.filled_at) * per_minute / MINUTE_S
        self.tokens, self.filled_at = min(self.tokens + came, per_minute), now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) * MINUTE_S / per_minute
        self.tokens -= 1.0
        return 0.0


class RequestRates:
    """Called in the event loop alone. A rate that changes applies to what a key has left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def count(self, key: ApiKey) -> None:
        """A request with this key has come.

        Raises:
            RateLimited: there were too many.
        """
        rate, now = key.requests_per_minute, self._clock()
        if rate is None:
            self._buckets.pop(key.name, None)
            return
        bucket = self._buckets.setdefault(key.name, TokenBucket(rate, now))
        wait_s = bucket.take(rate, now)
        if wait_s:
            raise RateLimited(
                f"the key {key.name!r} may send {rate} requests a minute ({LIMIT})",
                limit=LIMIT,
                client=key.name,
                retry_after_s=wait_s,
            )
