"""Plan: how many devices a load needs, from the simulation.

It looks for the fewest devices whose p95 latency, with requests routed to the least work, is not above
the wish. Latency is the engine's: HTTP and encoding come on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.simulate.curve import TickCurve
from bench.simulate.fleet import simulate
from bench.simulate.outcome import Latencies
from bench.simulate.traffic import Request
from service.scheduling.fair import fair_scheduler

REQUESTS = 4000
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
    work = sum(each.row_steps for each in requests) / curve.row_steps_per_s
    images = sum(each.images for each in requests)
    return (work + curve.decode_s * images) / requests[-1].at


def _alone_seconds(curve: TickCurve, request: Request) -> float:
    return sum(map(curve.seconds, request.rows)) + curve.decode_s


def _tried(curve: TickCurve, requests: Sequence[Request], devices: int) -> Plan:
    outcomes = simulate(curve, requests, fair_scheduler, engines=devices)
    return Plan(devices, _devices_full(curve, requests) / devices, Latencies.of(outcomes))
