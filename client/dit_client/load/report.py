"""Report: percentiles and rates of a load test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dit_client.load.requests import Reply


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Latencies are of the requests that got images, in seconds; None if none did."""

    requests: int
    seconds: float
    images_per_s: float
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    longest_s: float | None
    outcomes: Mapping[str, int]


def report_of(replies: Sequence[Reply], seconds: float) -> LoadReport:
    latencies = sorted(reply.seconds for reply in replies if reply.outcome == "ok")
    return LoadReport(
        requests=len(replies),
        seconds=seconds,
        images_per_s=sum(reply.images for reply in replies) / seconds,
        p50_s=percentile(latencies, 50),
        p95_s=percentile(latencies, 95),
        p99_s=percentile(latencies, 99),
        longest_s=percentile(latencies, 100),
        outcomes=dict(sorted(Counter(reply.outcome for reply in replies).items())),
    )


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The least value that at least so many percent do not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
