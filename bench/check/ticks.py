"""Ticks: the time of one denoising step by rows, against the plain one's and what was estimated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bench.arms.models import XL_TICK, model_folder
from bench.arms.protocol import ArmSpec
from bench.arms.workers import Worker, WorkerDied, running_workers
from bench.options import Options
from bench.report.figures import Cell, Measured, Spread, Table
from bench.suites.rounds import interleaved

ESTIMATES_MS = {2: 2.9, 8: 6.0, 32: 19.0, 64: 36.0, 128: 70.0}
"""DiT-XL/2 at 256 pixels in bf16 on an H100 with 798 TFLOP/s of bf16 products, by rows."""

FUSED, PLAIN = "fused", "plain"

HEADER = (
    *("rows", "ms", "estimate, ms", "measured / estimate", "rows/s"),
    *("plain, ms", "plain / fused", "kernels", "plain's kernels"),
)
NOTE = (
    "Plain is the same tick without Triton; where Triton does not work both are plain, and the worker's"
    " log says why. Kernels are those that torch's profiler sees in one tick, copies left out."
)


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
        specs = {FUSED: spec, PLAIN: replace(spec, triton=False)}
        with running_workers(specs, options) as workers:
            steps = {n: self._measured(workers, n) for n in self.rows}
            kernels = {name: _kernels(worker, self.rows) for name, worker in workers.items()}
            ready = workers[FUSED].ready.seconds
        estimates = ESTIMATES_MS if self.model == XL_TICK and options.on_gpu else {}
        rows = tuple(
            (*_row(n, steps[n], estimates.get(n)), kernels[FUSED].get(n), kernels[PLAIN].get(n))
            for n in self.rows
        )
        title = f"{self.model} in {dtype}: one tick; ready after {ready:.0f} s"
        figures = {f"{n}.ms": steps[n][FUSED] for n in self.rows}
        figures |= {f"{n}.plain_ms": steps[n][PLAIN] for n in self.rows}
        return Measured(figures, (Table(title, HEADER, rows),), (NOTE,))

    def _measured(self, workers: Mapping[str, Worker], rows: int) -> dict[str, Spread]:
        """Milliseconds of a tick of each worker."""
        arms = {name: _milliseconds(worker, rows) for name, worker in workers.items()}
        return interleaved(arms, self.rounds)


def _milliseconds(worker: Worker, rows: int) -> Callable[[], float]:
    return lambda: 1e3 * worker.step(rows)


def _kernels(worker: Worker, rows: tuple[int, ...]) -> dict[int, float | None]:
    """By rows; nothing if the profiler ends the worker, for all times are measured already."""
    try:
        return {n: worker.kernels(n) for n in rows}
    except WorkerDied:
        return {}


def _row(rows: int, steps: Mapping[str, Spread], estimate: float | None) -> tuple[Cell, ...]:
    fused, plain = steps[FUSED], steps[PLAIN]
    ratio = None if estimate is None else fused.median / estimate
    speed = 1e3 * rows / fused.median
    return str(rows), fused, estimate, ratio, speed, plain, plain.over(fused)
