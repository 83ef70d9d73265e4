"""Options: what one run of the benchmark was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
REPORT = ROOT / "docs" / "benchmarks.md"
WORK = ROOT / "build" / "bench"
"""Random weights, logs, and the packages that the peers alone need; ignored by git."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """``model`` replaces every suite's own choice; ``threads`` is set for every arm alike."""

    device: str = "cpu"
    quick: bool = False
    compiled: bool = False
    model: str | None = None
    threads: int | None = None
    results: Path = RESULTS
    work: Path = WORK

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def pick(self, full: T, quick: T) -> T:
        """A number of the measurement, by how thorough it is to be."""
        return quick if self.quick else full

    def by_device(self, cpu: T, cuda: T) -> T:
        return cuda if self.on_gpu else cpu

    def models(self, *names: str) -> tuple[str, ...]:
        """The models of a suite, or the one that was asked for in their place."""
        return names if self.model is None else (self.model,)
