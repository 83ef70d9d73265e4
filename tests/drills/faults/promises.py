"""Promises: of each fault, the answer, the metric, the line in the log and the state afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from tests.drills.faults.service import Fault

FAILED = 'dit_images_total{outcome="failed"}'


@dataclass(frozen=True, slots=True)
class Promise:
    """What a fault may come to.

    Attributes:
        status: of the answer to the request at fault.
        metric: a sample that grows by it.
        line: what an event in the log begins with, and has in it.
        others: the statuses that requests next to it may get.
        exit_code: None if the service goes on.
    """

    fault: Fault
    status: int
    metric: str
    line: tuple[str, str]
    others: frozenset[int] = frozenset({200})
    exit_code: int | None = None

    @property
    def words(self) -> str:
        """As a row of the table says it."""
        after = "ready" if self.exit_code is None else f"exit {self.exit_code}, ready again"
        count = f", `{self.metric}` grows" if self.metric else ""
        others = " or ".join(map(str, sorted(self.others)))
        line = ", ".join(filter(None, self.line)) or "none"
        return f"{self.status}, others {others}{count}; log: {line}; then {after}"


SURVIVED = (
    Promise("step fails", 500, FAILED, ("image failed", "injected")),
    Promise("not finite", 500, "dit_nonfinite_images_total", ("image failed", "NotFinite")),
    Promise("out of memory", 500, "dit_out_of_memory_total", ("image failed", "OutOfMemory")),
    Promise("little memory", 200, "dit_out_of_memory_total", ("row limit changed", "")),
    Promise("hangs for a while", 200, "", ("", "")),
)
EITHER = frozenset({200, 503})
FATAL = (
    Promise("thread ends", 503, "", ("the engine died", "SystemExit"), EITHER, 1),
    Promise("device lost", 503, "", ("the engine died", "unspecified"), EITHER, 1),
    Promise("hangs", 503, "", ("given up", "no sign of life"), EITHER, 1),
)
