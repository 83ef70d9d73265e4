"""Likeness: the figures of a real load beside those of its simulation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.load.clients import LoadRun
from bench.load.clients import Outcome as Answered
from bench.report.figures import Cell, Measured, Spread, Table, percentile
from bench.simulate.outcome import Outcome

STAGES = ("queue", "denoise", "decode")

Figures = dict[str, float]


def compared(arms: dict[str, tuple[LoadRun, Figures]], note: str) -> Measured:
    """Of each arm its real and its simulated figures."""
    figures: dict[str, Spread] = {}
    rows: list[tuple[Cell, ...]] = []
    for arm, (run, simulated) in arms.items():
        for figure, seconds in _real_figures(run).items():
            ratio = seconds / simulated[figure]
            figures[f"{arm}.{figure}"] = Spread((ratio,))
            rows.append((arm, figure, simulated[figure], seconds, ratio))
        rows.append((arm, "added by HTTP, median, s", None, _added_by_http(run), None))
    header = ("service", "figure", "simulated", "real", "real / simulated")
    return Measured(figures, (Table("Simulated and real", header, tuple(rows)),), (note,))


def _real_figures(run: LoadRun) -> Figures:
    latencies = [_engine_seconds(each) for each in run.outcomes]
    steps = [each.ask.num_sampling_steps for each in run.outcomes]
    return _figures(latencies, steps, len(run.good) / run.seconds)


def _engine_seconds(outcome: Answered) -> float:
    """A failure counts as at least its timeout."""
    if not outcome.good:
        return outcome.latency
    return sum(outcome.stages[stage] for stage in STAGES)


def _added_by_http(run: LoadRun) -> float:
    return statistics.median(each.latency - _engine_seconds(each) for each in run.outcomes)


def simulated_figures(outcomes: Sequence[Outcome]) -> Figures:
    ends = [each.ended for each in outcomes if each.ended is not None]
    latencies = [each.latency for each in outcomes]
    return _figures(latencies, [each.request.steps for each in outcomes], len(ends) / max(ends))


def _figures(latencies: Sequence[float], steps: Sequence[int], rate: float) -> Figures:
    per_step = [latency / each for latency, each in zip(latencies, steps, strict=True)]
    return {
        "p50, s": percentile(latencies, 50),
        "p95, s": percentile(latencies, 95),
        "p95 of latency over steps, s": percentile(per_step, 95),
        "images/s": rate,
    }
