"""Targets: the figures that the project wants to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.arms.models import XL_TICK
from bench.options import BUNDLED, XL_256
from bench.report.figures import Spread, SuiteResult, find_spread


@dataclass(frozen=True, slots=True)
class Target:
    """A bound for a figure of a suite on one kind of device; unit % is for fractions."""

    device: str
    suite: str
    figure: str
    what: str
    bound: float
    below: bool = False
    unit: str = "x"

    def reached(self, spread: Spread) -> bool:
        return spread.median < self.bound if self.below else spread.median >= self.bound

    def measured(self, results: Sequence[SuiteResult]) -> Spread | None:
        return find_spread(results, device=self.device, suite=self.suite, figure=self.figure)


_ALONE = "one image alone: speed over diffusers"
_SERVING = "32 uniform clients: throughput over LitServe + diffusers"
_SIMULATED = "simulated load of 0.8, {} steps, {}: {} of a static batcher over ours"
_OVERHEAD = "overhead per request at p50, unloaded"
_PREVIEWS = "32 clients next to one that watches: their time with previews over without"
_XL = "DiT-XL/2 256 px"

_SCHEDULING = (
    ("cpu", "uniform", 1.4, 2.0),
    ("cpu", "log-uniform", 2.0, 3.4),
    ("h100", "uniform", 1.8, 3.0),
    ("h100", "log-uniform", 3.0, 5.5),
)
"""Of a simulated device: the median and latency over steps."""

SCHEDULING = tuple(
    Target(
        "cpu", "simulate", f"{figure}.{key}.{steps}.0.8", _SIMULATED.format(steps, key, what), bound
    )
    for key, steps, *bounds in _SCHEDULING
    for figure, what, bound in zip(("p50", "per_step"), ("p50", "latency over steps"), bounds)
)

TARGETS = (
    Target("cpu", "alone", f"{BUNDLED}.over_fp32", f"{_ALONE} fp32", 5.0),
    Target("cpu", "alone", f"{BUNDLED}.over_bf16", f"{_ALONE} bf16", 2.5),
    Target("cpu", "serving", "over LitServe float32", f"{_SERVING} fp32", 3.0),
    Target("cpu", "serving", "over LitServe bfloat16", f"{_SERVING} bf16", 1.5),
    *SCHEDULING,
    Target(
        "cpu",
        "tick",
        f"{XL_TICK}.bfloat16.2.share",
        "DiT-XL/2, one guided step in bf16: fraction of the matmul peak",
        0.85,
        unit="%",
    ),
    Target("cpu", "overhead", "p50_ms", _OVERHEAD, 10.0, below=True, unit=" ms"),
    Target("cpu", "operation", "previews", _PREVIEWS, 1.05, below=True),
    Target("cuda", "serving", "ours", f"{_XL}, 50 guided steps, loaded", 23.0, unit=" images/s"),
    Target("cuda", "serving", "limit_share", "the same: fraction of the limit", 0.70, unit="%"),
    Target("cuda", "alone", f"{XL_256}.over_bf16", f"{_XL}, {_ALONE} bf16, eager", 3.0),
    Target("cuda", "overhead", "p50_ms", _OVERHEAD, 10.0, below=True, unit=" ms"),
)


def bound_of(device: str, suite: str, figure: str) -> float | None:
    """The bound of a figure, if it has a target."""
    place = (device, suite, figure)
    bounds = (one.bound for one in TARGETS if (one.device, one.suite, one.figure) == place)
    return next(bounds, None)
