"""Traffic: requests that arrive by a Poisson process."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.load.workload import Ask, mixed, poisson
from bench.simulate.curve import TickCurve

NO_DEADLINE_S = 1e9


@dataclass(frozen=True, slots=True)
class Request:
    """``at`` is in seconds; ``rows`` of each step of an image: one, or two with guidance."""

    number: int
    at: float
    rows: tuple[int, ...]
    timeout_s: float
    images: int = 1

    @property
    def steps(self) -> int:
        return len(self.rows)

    @property
    def row_steps(self) -> int:
        return self.images * sum(self.rows)


def traffic(
    curve: TickCurve,
    steps: Callable[[random.Random], int],
    load: float,
    count: int,
    *,
    seed: int = 0,
    timeout_s: float = NO_DEADLINE_S,
    images: Sequence[int] = (),
) -> list[Request]:
    """Requests at a rate whose work is ``load`` times what the device can do in full ticks.

    Each is for one image, or for a number drawn from ``images``.
    """
    asks = mixed(count, seed=seed, timeout_s=timeout_s, steps=steps)
    requests = requests_of(scheduled(curve, asks, load, seed))
    return _of_several(requests, images, seed) if images else requests


def _of_several(requests: Sequence[Request], images: Sequence[int], seed: int) -> list[Request]:
    """These requests with more images, and as much later that the load is the same."""
    draw = random.Random(f"images {seed}")
    several = [replace(each, images=draw.choice(images)) for each in requests]
    later = sum(each.row_steps for each in several) / sum(each.row_steps for each in requests)
    return [replace(each, at=later * each.at) for each in several]


def scheduled(
    curve: TickCurve, asks: list[Ask], load: float, seed: int = 0
) -> list[tuple[float, Ask]]:
    """Arrival times at a rate whose work is ``load`` times what the device can do in full ticks."""
    work = sum(sum(_rows(ask)) for ask in asks) / len(asks)
    return poisson(asks, load * curve.row_steps_per_s / work, seed)


def requests_of(schedule: Sequence[tuple[float, Ask]]) -> list[Request]:
    """What a real load asks for, as the simulation takes it."""
    return [
        Request(number, at, _rows(ask), ask.timeout_s) for number, (at, ask) in enumerate(schedule)
    ]


def _rows(ask: Ask) -> tuple[int, ...]:
    return (1 if ask.cfg_scale == 1.0 else 2,) * ask.num_sampling_steps


def arrivals(rate: float, steps: int, count: int, *, guided: bool = True) -> list[Request]:
    """Equal requests, ``rate`` a second."""
    draw = random.Random(0)
    rows = (2 if guided else 1,) * steps
    at, requests = 0.0, []
    for number in range(count):
        at += draw.expovariate(rate)
        requests.append(Request(number, at, rows, NO_DEADLINE_S))
    return requests
