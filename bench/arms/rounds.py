"""Rounds: arms measured in turn, A B A B, so that a drift of the machine meets them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.report.figures import Spread

Measure = Callable[[], float]


def interleaved(
    arms: Mapping[str, Measure], rounds: int, *, warm_ups: int = 1
) -> dict[str, Spread]:
    """Measure every arm once a round; what the first ``warm_ups`` rounds say is thrown away."""
    seen: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(warm_ups + rounds):
        for name, measure in arms.items():
            seen[name].append(measure())
    return {name: Spread(tuple(values[warm_ups:])) for name, values in seen.items()}


def ratio(above: Spread, below: Spread) -> Spread:
    """Round by round, so that what slowed one round down stands on both sides."""
    return Spread(tuple(a / b for a, b in zip(above.rounds, below.rounds, strict=True)))


def scaled(spread: Spread, factor: float) -> Spread:
    return Spread(tuple(value * factor for value in spread.rounds))


def rate(count: float, seconds: Spread) -> Spread:
    """So many things in these seconds, as things a second."""
    return Spread(tuple(count / value for value in seconds.rounds))
