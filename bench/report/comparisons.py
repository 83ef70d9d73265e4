"""Comparisons: how many times as fast ours is as each alternative, by scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.options import BUNDLED, XL_256
from bench.report.figures import Spread, SuiteResult, find_spread
from bench.report.targets import bound_of

EQUAL_ALONE = "Equal quality, one image alone"
EQUAL_SERVED = "Equal quality, many clients over HTTP"
ALONE = "One image alone: latency without HTTP"
UNIFORM = "Uniform load: throughput over HTTP"
MIXED = "Mixed load, simulated: p95 latency against a static batcher"

PEERS: tuple[tuple[str, str, str, str], ...] = (
    (EQUAL_ALONE, "diffusers fp32, DDIM 50", "quality", "alone over diffusers fp32 ddim 50"),
    (EQUAL_ALONE, "diffusers bf16, DDIM 50", "quality", "alone over diffusers bf16 ddim 50"),
    (EQUAL_ALONE, "diffusers fp32, 2M 10", "quality", "alone over diffusers fp32 dpmpp_2m 10"),
    (EQUAL_ALONE, "diffusers bf16, 2M 10", "quality", "alone over diffusers bf16 dpmpp_2m 10"),
    (EQUAL_SERVED, "LitServe fp32, DDIM 50", "quality", "serving over LitServe float32 ddim 50"),
    (EQUAL_SERVED, "LitServe bf16, DDIM 50", "quality", "serving over LitServe bfloat16 ddim 50"),
    (EQUAL_SERVED, "LitServe fp32, 2M 10", "quality", "serving over LitServe float32 dpmpp_2m 10"),
    (EQUAL_SERVED, "LitServe bf16, 2M 10", "quality", "serving over LitServe bfloat16 dpmpp_2m 10"),
    (ALONE, "diffusers fp32", "alone", "{model}.over_fp32"),
    (ALONE, "diffusers bf16", "alone", "{model}.over_bf16"),
    (UNIFORM, "FastAPI + diffusers fp32", "serving", "over naive float32"),
    (UNIFORM, "FastAPI + diffusers bf16", "serving", "over naive bfloat16"),
    (UNIFORM, "LitServe + diffusers fp32", "serving", "over LitServe float32"),
    (UNIFORM, "LitServe + diffusers bf16", "serving", "over LitServe bfloat16"),
    *(
        (
            MIXED,
            f"{device}, {steps} steps, load of {load:g}",
            "simulate",
            f"p95.{key}.{steps}.{load:g}",
        )
        for key, device in (("cpu", "CPU"), ("h100", "H100"))
        for steps in ("uniform", "log-uniform")
        for load in (0.5, 0.8, 0.95)
    ),
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
