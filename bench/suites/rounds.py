"""Rounds: arms measured in turn, A B A B, so that drift of the machine affects all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.report.figures import Spread

Measure = Callable[[], float]


def interleaved(
    arms: Mapping[str, Measure], rounds: int, *, warm_ups: int = 1
) -> dict[str, Spread]:
    """Measure every arm once per round; the first ``warm_ups`` rounds are discarded."""
    seen: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(warm_ups + rounds):
        for name, measure in arms.items():
            seen[name].append(measure())
    return {name: Spread(tuple(values[warm_ups:])) for name, values in seen.items()}
