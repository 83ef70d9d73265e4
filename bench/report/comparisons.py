"""Comparisons: how many times as fast ours is as each alternative, by scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.options import BUNDLED, XL_256
from bench.report.figures import Spread, SuiteResult, find_spread
from bench.report.targets import bound_of

ALONE = "One image alone: latency without HTTP"
UNIFORM = "Uniform load: throughput over HTTP"
MIXED = "Mixed load: p95 latency against a static batcher"

PEERS: tuple[tuple[str, str, str, str], ...] = (
    (ALONE, "diffusers fp32", "alone", "{model}.over_fp32"),
    (ALONE, "diffusers bf16", "alone", "{model}.over_bf16"),
    (UNIFORM, "FastAPI + diffusers fp32", "serving", "over naive float32"),
    (UNIFORM, "FastAPI + diffusers bf16", "serving", "over naive bfloat16"),
    (UNIFORM, "LitServe + diffusers fp32", "serving", "over LitServe float32"),
    (UNIFORM, "LitServe + diffusers bf16", "serving", "over LitServe bfloat16"),
    (MIXED, "uniform steps at 0.2 of capacity", "mixed", "p95.uniform.0.2"),
    (MIXED, "uniform steps at 0.5 of capacity", "mixed", "p95.uniform.0.5"),
    (MIXED, "uniform steps at 0.8 of capacity", "mixed", "p95.uniform.0.8"),
    (MIXED, "uniform steps at 1.0 of capacity", "mixed", "p95.uniform.1"),
    (MIXED, "uniform steps at 1.2 of capacity", "mixed", "p95.uniform.1.2"),
    (MIXED, "log-uniform steps at 0.8 of capacity", "mixed", "p95.log-uniform.0.8"),
)
"""Scenario, alternative, suite, figure."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``spread``: above 1, ours is that many times as fast. ``target`` is None without one."""

    scenario: str
    peer: str
    spread: Spread
    target: float | None

    @property
    def lost(self) -> bool:
        return self.spread.median < 1


def comparisons(results: Sequence[SuiteResult], device: str) -> list[Comparison]:
    """Those that were measured."""
    found = []
    model = BUNDLED if device == "cpu" else XL_256
    for scenario, peer, suite, name in PEERS:
        figure = name.format(model=model)
        spread = find_spread(results, device=device, suite=suite, figure=figure)
        if spread is not None:
            target = bound_of(device, suite, figure)
            found.append(Comparison(scenario, peer, spread, target))
    return found
