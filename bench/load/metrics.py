"""Metrics: what our service counts, read off its /metrics before and after a load."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

_SAMPLE = re.compile(r"^(dit_\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums since the start; a difference of two is what happened between them."""

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
        """Padding and row-steps of images that nobody got, as a share of all."""
        wasted = self.padding + self.cancelled
        return wasted / (wasted + self.useful) if wasted else 0.0


def counts_in(samples: dict[tuple[str, str], float]) -> Counts:
    return Counts(
        useful=samples[("dit_denoise_steps_total", 'kind="useful"')],
        padding=samples[("dit_denoise_steps_total", 'kind="padding"')],
        cancelled=samples[("dit_denoise_steps_total", 'kind="cancelled"')],
        ticks=samples[("dit_tick_rows_count", "")],
        rows=samples[("dit_tick_rows_sum", "")],
    )


def read_metrics(url: str) -> dict[tuple[str, str], float]:
    """Every sample by its name and its labels as they are written."""
    answer = httpx.get(f"{url}/metrics", trust_env=False, timeout=30.0)
    return parse_metrics(answer.text)


def parse_metrics(text: str) -> dict[tuple[str, str], float]:
    found = _SAMPLE.findall(text)
    return {(name, labels): float(value) for name, labels, value in found}
