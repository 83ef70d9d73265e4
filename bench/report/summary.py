"""Summary: the sentences at the top of the report, made from the results."""

from __future__ import annotations

from collections.abc import Sequence

from bench.arms.models import XL_TICK
from bench.options import XL_256
from bench.report.comparisons import (
    ALONE,
    EQUAL_ALONE,
    EQUAL_SERVED,
    UNIFORM,
    Comparison,
    comparisons,
)
from bench.report.figures import SuiteResult, find_spread
from bench.report.markdown import in_unit, listed, number
from bench.report.targets import TARGETS


def sentences(results: Sequence[SuiteResult], device: str) -> list[str]:
    """Speed alone, speed under load, losses, costs, targets: those that were measured."""
    compared = comparisons(results, device)
    return [
        *_speeds(
            compared,
            EQUAL_ALONE,
            "At equal quality, with one image at a time and without HTTP, the service is {}.",
        ),
        *_speeds(
            compared, EQUAL_SERVED, "At equal quality, with many clients over HTTP, it is {}."
        ),
        *_speeds(
            compared,
            ALONE,
            "At equal steps, with one image at a time and without HTTP, the service is {}.",
        ),
        *_speeds(
            compared,
            UNIFORM,
            "At equal steps, with many clients over HTTP, it is {}.",
        ),
        *_losses(compared),
        *_costs(results, device),
        *_targets(results, device),
    ]


def _speeds(compared: Sequence[Comparison], scenario: str, sentence: str) -> list[str]:
    parts = [
        f"{number(one.spread.median)} times as fast as {one.peer}"
        for one in compared
        if one.scenario == scenario
    ]
    return [sentence.format(listed(parts))] if parts else []


def _losses(compared: Sequence[Comparison]) -> list[str]:
    if not compared:
        return []
    parts = []
    for scenario in dict.fromkeys(one.scenario for one in compared):
        medians = [one.spread.median for one in compared if one.scenario == scenario]
        lost = [median for median in medians if median < 1]
        if lost:
            place = f'{len(lost)} of the {len(medians)} comparisons of "{scenario}"'
            parts.append(f"{place}, down to {number(min(lost))}x")
    if not parts:
        return [f"It is slower in none of the {len(compared)} comparisons."]
    return [f"**It is slower** in {listed(parts)}."]


def _costs(results: Sequence[SuiteResult], device: str) -> list[str]:
    figure = f"{XL_TICK if device == 'cpu' else XL_256}.bfloat16.2.share"
    share = find_spread(results, device=device, suite="tick", figure=figure)
    overhead = find_spread(results, device=device, suite="overhead", figure="p50_ms")
    parts = []
    if share is not None:
        part = "a guided DiT-XL/2 step runs at {} of the speed of the machine's best matrix product"
        parts.append(part.format(in_unit(share.median, "%")))
    if overhead is not None:
        milliseconds = in_unit(overhead.median, " ms")
        parts.append(f"HTTP, queue and metrics add {milliseconds} to a request (p50, unloaded)")
    text = ", and ".join(parts)
    return [f"{text[0].upper()}{text[1:]}."] if parts else []


def _targets(results: Sequence[SuiteResult], device: str) -> list[str]:
    here = [target for target in TARGETS if target.device == device]
    found = [(target, target.measured(results)) for target in here]
    reached = sum(spread is not None and target.reached(spread) for target, spread in found)
    unmeasured = sum(spread is None for _, spread in found)
    missed = len(here) - reached - unmeasured
    rest = f", {unmeasured} not measured" if unmeasured else ""
    return [f"{device.upper()} targets: {reached} of {len(here)} reached, {missed} missed{rest}."]
