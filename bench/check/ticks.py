"""Ticks: the time of one denoising step by rows, against what it was estimated to take."""

from __future__ import annotations

from dataclasses import dataclass

from bench.arms.models import XL_TICK, model_folder
from bench.arms.protocol import ArmSpec
from bench.arms.workers import running_worker
from bench.options import Options
from bench.report.figures import Cell, Measured, Spread, Table
from bench.suites.rounds import interleaved

ESTIMATES_MS = {2: 2.9, 8: 6.0, 32: 19.0, 64: 36.0, 128: 70.0}
"""DiT-XL/2 at 256 pixels in bf16 on an H100 with 798 TFLOP/s of bf16 products, by rows."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Milliseconds of one tick by rows: the forward pass, guidance and the sampler's step."""

    model: str
    rows: tuple[int, ...]
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Ticks:
        rows = tuple(ESTIMATES_MS)
        return cls(options.model or XL_TICK, options.pick(rows, rows[:2]), options.pick(5, 2))

    def run(self, options: Options) -> Measured:
        folder, dtype = model_folder(self.model, options), options.by_device("float32", "bfloat16")
        spec = ArmSpec("ours", folder, options.device, dtype, max(self.rows))
        with running_worker("ours", spec, options) as worker:
            arms = {str(n): lambda n=n: 1e3 * worker.step(n) for n in self.rows}
            milliseconds = interleaved(arms, self.rounds)
        estimates = ESTIMATES_MS if self.model == XL_TICK and options.on_gpu else {}
        rows = tuple(_row(n, milliseconds[str(n)], estimates.get(n)) for n in self.rows)
        header = ("rows", "ms", "estimate, ms", "measured / estimate", "rows/s")
        title = f"{self.model} in {dtype}: one tick; ready after {worker.ready.seconds:.0f} s"
        figures = {f"{n}.ms": spread for n, spread in milliseconds.items()}
        return Measured(figures, (Table(title, header, rows),))


def _row(rows: int, milliseconds: Spread, estimate: float | None) -> tuple[Cell, ...]:
    ratio = None if estimate is None else milliseconds.median / estimate
    return str(rows), milliseconds, estimate, ratio, 1e3 * rows / milliseconds.median
