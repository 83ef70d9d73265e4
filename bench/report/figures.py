"""Figures: what a suite measured, as written to and read from its JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity as measured in each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def low(self) -> float:
        return min(self.rounds)

    @property
    def high(self) -> float:
        return max(self.rounds)

    def over(self, other: Spread) -> Spread:
        """The ratio round by round: what slows a round down affects both sides."""
        return Spread(tuple(a / b for a, b in zip(self.rounds, other.rounds, strict=True)))

    def rate_of(self, count: float) -> Spread:
        """Seconds for ``count`` things -> things per second."""
        return Spread(tuple(count / seconds for seconds in self.rounds))


Cell = Spread | float | str | None
"""None: not measured."""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a suite returns. ``figures`` by name are for targets and plot, ``notes`` for the report."""

    figures: dict[str, Spread]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Where, when and with what it was measured."""

    date: str
    command: str
    commit: str
    machine: str
    cores: int
    gpu: str | None
    threads: str
    versions: dict[str, str]
    load_before: float
    load_after: float
    minutes: float


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """``model`` is empty when the suite chose its own."""

    suite: str
    device: str
    plan: str
    facts: Facts
    measured: Measured
    model: str = ""


_FILE = TypeAdapter(SuiteResult)


def write_result(result: SuiteResult, folder: Path) -> Path:
    """Write a suite's file, replacing an older one of the same device and model."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(part for part in (result.suite, result.device, result.model) if part)
    path = folder / f"{name}.json"
    path.write_bytes(_FILE.dump_json(result, indent=1) + b"\n")
    return path


def read_results(folder: Path) -> list[SuiteResult]:
    return [_FILE.validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def find_spread(
    results: Sequence[SuiteResult], *, device: str, suite: str, figure: str
) -> Spread | None:
    """A figure of a suite with its own choice of model; None if it was not measured."""
    for result in results:
        if (result.device, result.suite, result.model) == (device, suite, ""):
            return result.measured.figures.get(figure)
    return None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of all do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]
