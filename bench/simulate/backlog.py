"""How much work waits at a load, and how long requests take: what the thresholds of autoscaling go by.

python -m bench.simulate.backlog; prints the table in docs/scaling.md, simulated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean, quantiles

from bench.simulate.curve import CURVES, TickCurve
from bench.simulate.engine import Engine
from bench.simulate.traffic import Request, arrivals
from service.scheduling.fair import fair_scheduler

DECODE_S = 3e-3
REQUESTS = 4000
SAMPLES = 3000
STEPS = (10, 50)
LOADS = (0.5, 0.7, 0.8, 0.9, 0.98)


def waiting(engine: Engine, requests: list[Request]) -> Iterator[int]:
    """The row-steps waiting, seen at even distances as a scrape sees them, while the requests come."""
    every, seen = requests[-1].at / SAMPLES, 0
    for request in requests:
        while seen * every < request.at:
            engine.advance(seen * every)
            seen += 1
            yield engine.row_steps
        engine.advance(request.at)
        engine.offer(request, request.at)
    engine.advance(math.inf)


def line(curve: TickCurve, steps: int, load: float) -> str:
    """A row of the table."""
    seconds = 2 * steps / curve.row_steps_per_s + curve.decode_s
    rate = load / seconds
    engine = Engine(curve, fair_scheduler)
    seen = list(waiting(engine, arrivals(rate, steps, REQUESTS)))[SAMPLES // 10 :]
    took = [each.ended - each.request.at for each in engine.outcomes if each.ended is not None]
    centiles = quantiles(took, n=100)
    return (
        f"| {steps} | {load} | {mean(seen):,.0f} ({quantiles(seen, n=20)[-1]:,.0f})"
        f" | {mean(seen) / curve.row_steps_per_s:.2f} | {centiles[49]:.2f} s, {centiles[94]:.2f} s"
        f" | {rate * 2 * steps:,.0f} |"
    )


def main() -> None:
    curve = replace(CURVES["h100"], decode_s=DECODE_S)
    for steps in STEPS:
        for load in LOADS:
            print(line(curve, steps, load))


if __name__ == "__main__":
    main()
