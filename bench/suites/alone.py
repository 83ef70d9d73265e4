"""Alone: single-image latency on an idle machine, without HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.arms.agreement import agreement
from bench.arms.specs import (
    AGREED,
    OURS,
    OURS_FP32,
    PEER_BF16,
    PEER_COMPILED,
    PEER_FP32,
    arms_of,
    draw_of,
)
from bench.arms.workers import Worker, running_workers
from bench.options import Options
from bench.report.figures import Measured, Spread, Table
from bench.suites.rounds import interleaved

NOTE = (
    "From noise to pixels on the host, without HTTP and PNG. The last column is the arm's time divided"
    " by ours: above 1, ours is that many times as fast."
)
RATIOS = {
    "over_fp32": (PEER_FP32, OURS),
    "over_bf16": (PEER_BF16, OURS),
    "fp32_over_fp32": (PEER_FP32, OURS_FP32),
    "over_compiled": (PEER_COMPILED, OURS),
}


@dataclass(frozen=True, slots=True)
class Alone:
    """Latency of one image on an idle machine, without HTTP."""

    models: tuple[str, ...]
    steps: int
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Alone:
        return cls(options.offline_models, options.pick(50, 4), options.pick(15, 2))

    def run(self, options: Options) -> Measured:
        figures: dict[str, Spread] = {}
        tables: list[Table] = []
        for model in self.models:
            with running_workers(arms_of(model, options), options) as workers:
                tables.append(agreement(workers, PEER_FP32, AGREED))
                arms = {name: self._drawing(worker) for name, worker in workers.items()}
                seconds = interleaved(arms, self.rounds)
                tables.append(self._table(model, workers, seconds))
            figures |= _ratios(model, seconds)
        return Measured(figures, tuple(tables), (NOTE,))

    def _drawing(self, worker: Worker) -> Callable[[], float]:
        """Draws one image, each time with another class and seed, so that no result is reused."""
        numbers = itertools.count()
        return lambda: worker.draw(draw_of(1, self.steps, first=next(numbers)))

    def _table(
        self, model: str, workers: Mapping[str, Worker], seconds: Mapping[str, Spread]
    ) -> Table:
        rows = tuple(
            (name, ready.dtype, float(ready.threads), ready.seconds, spread, ratio)
            for name, spread in seconds.items()
            for ready, ratio in [(workers[name].ready, spread.over(seconds[OURS]))]
        )
        header = ("arm", "dtype", "threads", "load and warm-up, s", "one image, s", "time / ours")
        return Table(f"{model}: one image, DDIM {self.steps}, guided", header, rows)


def _ratios(model: str, seconds: Mapping[str, Spread]) -> dict[str, Spread]:
    return {
        f"{model}.{name}": seconds[above].over(seconds[below])
        for name, (above, below) in RATIOS.items()
        if above in seconds
    }
