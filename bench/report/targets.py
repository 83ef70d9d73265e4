"""Targets: the ratios that the project set itself, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.models.folders import BUNDLED, XL_256, XL_TICK
from bench.report.figures import Spread, SuiteResult


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a suite on a kind of device, and what it is to reach.

    ``percent`` figures are shares, told in percent.
    """

    device: str
    suite: str
    figure: str
    what: str
    bound: float
    below: bool = False
    unit: str = "x"

    def reached(self, spread: Spread) -> bool:
        return spread.median < self.bound if self.below else spread.median >= self.bound

    def spread_in(self, results: Sequence[SuiteResult]) -> Spread | None:
        """What it came to, None where that was not measured."""
        for result in results:
            if (result.device, result.suite) == (self.device, self.suite):
                for figure in result.measured.figures:
                    if figure.name == self.figure:
                        return figure.spread
        return None


_ALONE = "one image alone: latency of DiTPipeline over ours,"
_SERVING = "32 uniform clients: throughput of ours over LitServe + DiTPipeline,"
_OVERHEAD = "the service's own overhead at p50, unloaded"

TARGETS = (
    Target("cpu", "alone", f"{BUNDLED}.over_fp32", f"{_ALONE} its fp32", 5.0),
    Target("cpu", "alone", f"{BUNDLED}.over_bf16", f"{_ALONE} its bf16", 2.5),
    Target("cpu", "serving", "over LitServe float32", f"{_SERVING} its fp32", 3.0),
    Target("cpu", "serving", "over LitServe bfloat16", f"{_SERVING} its bf16", 1.5),
    Target(
        "cpu",
        "mixed",
        "p95.uniform.0.8",
        "mixed load at 0.8 of capacity: p95 of the static batcher over ours",
        3.0,
    ),
    Target(
        "cpu",
        "tick",
        f"{XL_TICK}.bfloat16.2.share",
        "DiT-XL/2, one guided step, bf16: share of the matmul peak",
        0.85,
        unit="%",
    ),
    Target("cpu", "overhead", "p50_ms", _OVERHEAD, 10.0, below=True, unit=" ms"),
    Target(
        "cuda",
        "serving",
        "ours",
        "DiT-XL/2 256 px, 50 guided steps, loaded",
        23.0,
        unit=" images/s",
    ),
    Target("cuda", "serving", "limit_share", "the same: share of the limit", 0.70, unit="%"),
    Target(
        "cuda",
        "alone",
        f"{XL_256}.over_bf16",
        "DiT-XL/2 256 px, one image alone: latency of eager bf16 DiTPipeline over ours",
        3.0,
    ),
    Target("cuda", "overhead", "p50_ms", _OVERHEAD, 10.0, below=True, unit=" ms"),
)
