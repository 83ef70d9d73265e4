"""Planner: python -m bench plan: how many devices a load needs, from the simulation.

It looks for the fewest devices whose p95 latency, with requests routed to the least work, is not above
the wish. Latency is the engine's: HTTP and encoding come on top.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

from bench.options import ROOT
from bench.simulate.curve import CURVES, TickCurve, read_curve
from bench.simulate.plan import REQUESTS, plan
from bench.simulate.plan_table import planned_table, write_table
from bench.simulate.traffic import arrivals

DECODE_S = {"cpu": 8e-3, "h100": 3e-3}
"""An image's seconds in the decoder, which the built-in curves leave out: measured, and estimated."""

TABLE = ROOT / "docs" / "scaling.md"


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.table and None in (given.rate, given.steps, given.p95):
        parser.error("--rate, --steps and --p95 are needed")
    try:
        curve = read_curve(given.curve)
        if given.curve in DECODE_S:
            curve = replace(curve, decode_s=DECODE_S[given.curve])
        if given.table:
            return _write_table(curve)
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


def _write_table(curve: TickCurve) -> int:
    write_table(TABLE, planned_table(curve))
    print(TABLE)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench plan", description=__doc__)
    parser.add_argument("--rate", type=_positive, help="images per second")
    parser.add_argument("--steps", type=int, help="steps of each image")
    parser.add_argument("--p95", type=_positive, help="seconds, at most")
    parser.add_argument("--unguided", action="store_true", help="guidance 1: half of the rows")
    parser.add_argument("--table", action="store_true", help=f"write the table of {TABLE.name}")
    curves = f"{', '.join(CURVES)}, or a JSON file (docs/benchmarks.md)"
    parser.add_argument("--curve", default="h100", help=f"{curves}; default: h100")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
