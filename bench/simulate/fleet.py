"""Fleet: requests through one engine, or through several behind a router."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence

from bench.simulate.curve import TickCurve
from bench.simulate.engine import UNBOUNDED, Engine, Slowness, steady
from bench.simulate.outcome import Outcome
from bench.simulate.traffic import Request
from service.fleet.contention import contention, counts_of
from service.scheduling.scheduler import MakeScheduler

Route = Callable[[Sequence[Engine], Request, random.Random], Engine]
"""Chooses the engine of a request."""


def fewest_requests(engines: Sequence[Engine], _: Request, draw: random.Random) -> Engine:
    """The one with the fewest requests; of several one at random."""
    fewest = min(engine.ongoing for engine in engines)
    return draw.choice([engine for engine in engines if engine.ongoing == fewest])


def fewest_requests_of_two(engines: Sequence[Engine], _: Request, draw: random.Random) -> Engine:
    """Of two at random the one with fewer requests, as Ray Serve does by default."""
    return min(draw.sample(engines, min(2, len(engines))), key=lambda engine: engine.ongoing)


def least_work_of_two(engines: Sequence[Engine], _: Request, draw: random.Random) -> Engine:
    """Of two at random the one with less work left, in row-steps."""
    return min(draw.sample(engines, min(2, len(engines))), key=lambda engine: engine.row_steps)


def least_work(engines: Sequence[Engine], _: Request, __: random.Random) -> Engine:
    """The one with the least work left, in row-steps."""
    return min(engines, key=lambda engine: engine.row_steps)


def least_contention(engines: Sequence[Engine], request: Request, _: random.Random) -> Engine:
    """The one where it and what is there delay each other least, as a fleet's front does."""

    def cost(engine: Engine) -> tuple[float, int]:
        work = request.row_steps, request.images
        return contention(counts_of(engine.left), work), engine.row_steps

    return min(engines, key=cost)


def simulate(
    curve: TickCurve,
    requests: Sequence[Request],
    make_scheduler: MakeScheduler,
    *,
    engines: int = 1,
    route: Route = least_work,
    max_queue_row_steps: int = UNBOUNDED,
    seed: int = 0,
    slowness: Slowness = steady,
) -> list[Outcome]:
    """Outcomes in the order of the requests. Who is refused comes again when it was told to."""
    fleet = [Engine(curve, make_scheduler, max_queue_row_steps, slowness) for _ in range(engines)]
    draw = random.Random(seed)
    coming = [(each.at, each.number, each, 1) for each in requests]
    heapq.heapify(coming)
    while coming:
        at, number, request, tries = heapq.heappop(coming)
        for engine in fleet:
            engine.advance(at)
        wait_s = route(fleet, request, draw).offer(request, at, tries)
        if wait_s is not None:
            heapq.heappush(coming, (at + wait_s, number, request, tries + 1))
    for engine in fleet:
        engine.advance(math.inf)
    outcomes = [outcome for engine in fleet for outcome in engine.outcomes]
    return sorted(outcomes, key=lambda outcome: outcome.request.number)
