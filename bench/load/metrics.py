"""Metrics: our service's counters, read from its /metrics before and after a load."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, str], float]
"""Values by name and ``kind`` label, the only label the benchmark reads ('' without one)."""


def read_metrics(url: str) -> Samples:
    """The samples of a running service."""
    return parse_metrics(httpx.get(f"{url}/metrics", trust_env=False, timeout=30.0).text)


def parse_metrics(text: str) -> Samples:
    return {
        (sample.name, sample.labels.get("kind", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def difference(after: Samples, before: Samples) -> Samples:
    """What a load added to the counters."""
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def rows_per_tick(samples: Samples) -> float:
    ticks = samples["dit_tick_rows_count", ""]
    return samples["dit_tick_rows_sum", ""] / ticks if ticks else 0.0


def waste(samples: Samples) -> float:
    """Padding and row-steps of undelivered images, as a fraction of all row-steps."""
    useful, padding, cancelled = (
        samples["dit_denoise_steps_total", kind] for kind in ("useful", "padding", "cancelled")
    )
    wasted = padding + cancelled
    return wasted / (wasted + useful) if wasted else 0.0
