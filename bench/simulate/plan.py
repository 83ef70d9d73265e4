"""python -m bench plan: how many devices a load needs, from the simulation.

It looks for the fewest devices whose p95 latency, with requests routed to the least work, is not above
the wish. Latency is the engine's: HTTP and encoding come on top.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.simulate.curve import CURVES, TickCurve, read_curve
from bench.simulate.fleet import simulate
from bench.simulate.outcome import Latencies
from bench.simulate.traffic import Request, arrivals
from service.scheduling.fair import fair_scheduler

REQUESTS = 4000
DECODE_S = {"cpu": 8e-3, "h100": 3e-3}
"""An image's seconds in the decoder, which the built-in curves leave out: measured, and estimated."""

FULLEST = 0.98
"""Loads above this are not tried: the queue would grow for as long as the simulation runs."""

MOST_DEVICES = 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """``load`` is the fraction of the devices' row-steps per second that the requests take."""

    devices: int
    load: float
    latencies: Latencies


def plan(curve: TickCurve, requests: Sequence[Request], p95_s: float) -> Plan:
    """The fewest devices with a p95 of at most ``p95_s`` seconds.

    Raises:
        ValueError: no number of devices reaches it.
    """
    least = max(math.ceil(_devices_full(curve, requests) / FULLEST), 1)
    alone_s = min(_alone_seconds(curve, each) for each in requests)
    if alone_s > p95_s:
        raise ValueError(
            f"not with any number of devices: an image takes {alone_s:.3g} s alone, and p95 should be {p95_s:g} s"
        )
    low, high = least - 1, least
    while (found := _tried(curve, requests, high)).latencies.p95 > p95_s:
        low, high = high, 2 * high
        if high > MOST_DEVICES:
            raise ValueError(f"not with {low} devices: p95 is {found.latencies.p95:.3g} s")
    while high - low > 1:
        middle = (low + high) // 2
        tried = _tried(curve, requests, middle)
        if tried.latencies.p95 <= p95_s:
            high, found = middle, tried
        else:
            low = middle
    return found


def _devices_full(curve: TickCurve, requests: Sequence[Request]) -> float:
    """How many devices the requests would keep busy in full ticks and decodes."""
    work = sum(sum(each.rows) for each in requests) / curve.row_steps_per_s
    return (work + curve.decode_s * len(requests)) / requests[-1].at


def _alone_seconds(curve: TickCurve, request: Request) -> float:
    return sum(map(curve.seconds, request.rows)) + curve.decode_s


def _tried(curve: TickCurve, requests: Sequence[Request], devices: int) -> Plan:
    outcomes = simulate(curve, requests, fair_scheduler, engines=devices)
    return Plan(devices, _devices_full(curve, requests) / devices, Latencies.of(outcomes))


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    try:
        curve = read_curve(given.curve)
        if given.curve in DECODE_S:
            curve = replace(curve, decode_s=DECODE_S[given.curve])
        requests = arrivals(given.rate, given.steps, REQUESTS, guided=not given.unguided)
        planned = plan(curve, requests, given.p95)
    except ValueError as error:
        print(f"bench plan: {error}")
        return 1
    latencies = planned.latencies
    print(
        f"{planned.devices} x {curve.name}: load {planned.load:.2f}, latency p50 {latencies.p50:.3g} s,"
        f" p95 {latencies.p95:.3g} s, p99 {latencies.p99:.3g} s"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench plan", description=__doc__)
    parser.add_argument("--rate", type=_positive, required=True, help="images per second")
    parser.add_argument("--steps", type=int, required=True, help="steps of each image")
    parser.add_argument("--p95", type=_positive, required=True, help="seconds, at most")
    parser.add_argument("--unguided", action="store_true", help="guidance 1: half of the rows")
    curves = f"{', '.join(CURVES)}, or a JSON file (docs/benchmarks.md)"
    parser.add_argument("--curve", default="h100", help=f"{curves}; default: h100")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
