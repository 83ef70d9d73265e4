"""Limits: the throughput that a model's arithmetic and the machine's matrix products allow."""

from __future__ import annotations

from dataclasses import dataclass

from bench.arms.models import model_folder
from bench.arms.protocol import ArmSpec, Probe
from bench.arms.workers import running_worker
from bench.options import Options
from bench.report.figures import Spread


@dataclass(frozen=True, slots=True)
class Work:
    """Multiply-accumulates of one forward row and of decoding one image."""

    row_macs: float
    decoder_macs: float

    def row_flops(self, rows: int) -> float:
        return 2 * rows * self.row_macs

    def image_flops(self, steps: int, rows: int) -> float:
        """From noise to pixels, with ``rows`` rows per step."""
        return steps * self.row_flops(rows) + 2 * self.decoder_macs


@dataclass(frozen=True, slots=True)
class Limit:
    """``peak`` is the FLOP/s of the machine's best matrix product."""

    work: Work
    peak: float

    def images_per_second(self, steps: int, rows: int = 2) -> float:
        """If all work ran at the peak."""
        return self.peak / self.work.image_flops(steps, rows)

    def share(self, rates: Spread, steps: int) -> Spread:
        """Measured images/s as a fraction of the limit."""
        return Spread(tuple(rate / self.images_per_second(steps) for rate in rates.rounds))


def count_work(model: str, options: Options) -> Work:
    """Count with torch's FLOP counter, in a worker process."""
    spec = ArmSpec("count", model_folder(model, options), "cpu")
    with running_worker("count", spec, options) as counter:
        return Work(*counter.ask(Probe(0)).values)


def limit_of(model: str, dtype: str, options: Options) -> Limit:
    """A model's limit on this machine in a dtype."""
    work = count_work(model, options)
    spec = ArmSpec("matmul", "", options.device, dtype)
    with running_worker("matmul", spec, options) as matmul:
        return Limit(work, matmul.peak((options.by_device(2048, 8192),) * 3))
