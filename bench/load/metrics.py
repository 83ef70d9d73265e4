"""Metrics: our service's counters, read from its /metrics before and after a load."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals since the start of the service; subtract two to get those of a load."""

    useful: float
    padding: float
    cancelled: float
    ticks: float
    rows: float

    def __sub__(self, before: Counts) -> Counts:
        return Counts(
            self.useful - before.useful,
            self.padding - before.padding,
            self.cancelled - before.cancelled,
            self.ticks - before.ticks,
            self.rows - before.rows,
        )

    @property
    def rows_per_tick(self) -> float:
        return self.rows / self.ticks if self.ticks else 0.0

    @property
    def waste(self) -> float:
        """Padding and row-steps of undelivered images, as a fraction of all row-steps."""
        wasted = self.padding + self.cancelled
        return wasted / (wasted + self.useful) if wasted else 0.0


def counts_in(samples: dict[tuple[str, str], float]) -> Counts:
    return Counts(
        useful=samples["dit_denoise_steps_total", "useful"],
        padding=samples["dit_denoise_steps_total", "padding"],
        cancelled=samples["dit_denoise_steps_total", "cancelled"],
        ticks=samples["dit_tick_rows_count", ""],
        rows=samples["dit_tick_rows_sum", ""],
    )


def read_metrics(url: str) -> dict[tuple[str, str], float]:
    """The samples of a running service, as `parse_metrics` returns them."""
    answer = httpx.get(f"{url}/metrics", trust_env=False, timeout=30.0)
    return parse_metrics(answer.text)


def parse_metrics(text: str) -> dict[tuple[str, str], float]:
    """Values by name and ``kind`` label, the only label the benchmark reads ('' without one)."""
    return {
        (sample.name, sample.labels.get("kind", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
