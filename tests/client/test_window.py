"""The window of requests in flight, against simulated services."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

import pytest

from dit_client.dataset.window import Window


@dataclass(slots=True)
class Simulated:
    """A service that answers after ``latency_s``, but no more than ``rate`` per second, and refuses when
    ``room`` requests are in it."""

    latency_s: float
    rate: float
    room: int = 10**9
    jitter: float = 0.1


@dataclass(slots=True)
class Outcome:
    made: int
    refused: int
    seconds: float
    limits: list[int]

    @property
    def settled(self) -> float:
        """The mean window of the second half."""
        half = self.limits[len(self.limits) // 2 :]
        return sum(half) / len(half)


def simulate(service: Simulated, *, pictures: int, window: Window, retry_s: float = 1.0) -> Outcome:
    generator = random.Random(1)
    now, not_before, free_at = 0.0, 0.0, 0.0
    flights: list[tuple[float, int, float]] = []
    outcome = Outcome(0, 0, 0.0, [])
    numbers = itertools.count()
    while True:
        while outcome.made + len(flights) < pictures and len(flights) < window.limit:
            if now < not_before:
                break
            window.started(now)
            if len(flights) >= service.room:
                outcome.refused += 1
                window.refused(now, now)
                not_before = now + retry_s
                break
            free_at = max(now, free_at) + 1 / service.rate
            spread = 1 + service.jitter * generator.random()
            heapq.heappush(
                flights, (max(now + service.latency_s * spread, free_at), next(numbers), now)
            )
        if not flights:
            if outcome.made >= pictures:
                break
            now = not_before
            continue
        now, _, _ = heapq.heappop(flights)
        outcome.made += 1
        window.finished(now)
        outcome.limits.append(window.limit)
    outcome.seconds = now
    return outcome


@pytest.mark.parametrize(
    ("latency_s", "rate"), [(1.0, 8.0), (1.0, 60.0), (0.05, 100.0), (5.0, 20.0)]
)
def test_it_fills_the_service_and_not_much_more(latency_s: float, rate: float) -> None:
    pictures = 6000
    outcome = simulate(Simulated(latency_s, rate), pictures=pictures, window=Window())
    assert outcome.seconds < 1.2 * pictures / rate  # at least 83 % of what the service can do
    needed = latency_s * rate
    assert 0.7 * needed <= outcome.settled <= 4 * needed + 8


def test_a_full_queue_is_met_seldom() -> None:
    outcome = simulate(Simulated(1.0, 1000.0, room=50), pictures=5000, window=Window())
    assert outcome.refused < 0.02 * outcome.made
    assert outcome.settled > 25
    assert outcome.seconds < 3 * 5000 / 50


def test_refusals_of_one_full_queue_shrink_it_once() -> None:
    window = Window(limit=100)
    for _ in range(30):
        window.refused(sent=1.0, now=2.0)
    assert window.limit == 70
    window.refused(sent=3.0, now=4.0)
    assert window.limit == 49
    for now in range(5, 50):
        window.refused(sent=float(now), now=float(now))
    assert window.limit == 1


def test_the_most_is_no_trial_that_has_to_bring_more() -> None:
    window = Window(most=6, limit=4)
    window.started(0.0)
    for _ in range(8):
        window.finished(1.0)
    assert (window.limit, window.trial) == (6, False)


def test_it_never_exceeds_the_most() -> None:
    outcome = simulate(Simulated(1.0, 1000.0), pictures=2000, window=Window(most=32))
    assert max(outcome.limits) == 32
    assert outcome.settled > 28


def test_it_begins_anew_after_an_outage() -> None:
    window = Window(limit=90, slow=True)
    window.restart(now=5.0)
    assert (window.limit, window.slow, window.trial) == (4, False, True)
