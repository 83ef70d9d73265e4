"""Outcome: what became of a simulated request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report.figures import percentile
from bench.simulate.traffic import Request


@dataclass(frozen=True, slots=True)
class Outcome:
    """``ended`` is the time of its image, or None if it got none; ``tries`` counts refusals as well."""

    request: Request
    ended: float | None
    tries: int = 1

    @property
    def latency(self) -> float:
        """Seconds from its first arrival; of one without an image, its timeout."""
        if self.ended is None:
            return self.request.timeout_s
        return self.ended - self.request.at


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles in seconds; ``per_step`` is the p95 of latency over steps."""

    p50: float
    p95: float
    p99: float
    per_step: float
    answered: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Latencies:
        seconds = [each.latency for each in outcomes]
        return cls(
            percentile(seconds, 50),
            percentile(seconds, 95),
            percentile(seconds, 99),
            percentile([each.latency / each.request.steps for each in outcomes], 95),
            sum(each.ended is not None for each in outcomes) / len(outcomes),
        )
