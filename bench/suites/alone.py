"""Alone: how long one image takes when nothing else is asked for, without HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.arms.agreement import agreement
from bench.arms.rounds import interleaved, ratio
from bench.arms.workers import Worker, running_workers
from bench.models.folders import BUNDLED, XL_256, XL_512
from bench.options import Options
from bench.report.figures import Figure, Measured, Spread, Table
from bench.suites.arms import (
    AGREED,
    OURS,
    OURS_FP32,
    PEER_BF16,
    PEER_COMPILED,
    PEER_FP32,
    arms_of,
    draw_of,
)


@dataclass(frozen=True, slots=True)
class Alone:
    models: tuple[str, ...]
    steps: int
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Alone:
        models = options.models(*options.by_device((BUNDLED,), (XL_256, XL_512)))
        return cls(models, options.pick(50, 4), options.pick(15, 2))

    def run(self, options: Options) -> Measured:
        figures: list[Figure] = []
        tables: list[Table] = []
        for model in self.models:
            with running_workers(arms_of(model, options), options) as workers:
                tables.append(agreement(workers, PEER_FP32, AGREED))
                seconds = self._seconds(workers)
                tables.append(self._table(model, workers, seconds))
                figures += _figures(model, seconds)
        return Measured(tuple(figures), tuple(tables), (NOTE,))

    def _seconds(self, workers: Mapping[str, Worker]) -> dict[str, Spread]:
        arms = {name: self._another(worker) for name, worker in workers.items()}
        return interleaved(arms, self.rounds)

    def _another(self, worker: Worker) -> Callable[[], float]:
        """Draws one image, of another class and seed each time: ours keeps what it has computed."""
        numbers = itertools.count()
        return lambda: worker.draw(draw_of(1, self.steps, first=next(numbers)))

    def _table(
        self, model: str, workers: Mapping[str, Worker], seconds: Mapping[str, Spread]
    ) -> Table:
        rows = tuple(
            (
                name,
                workers[name].ready.dtype,
                float(workers[name].ready.threads),
                workers[name].ready.seconds,
                spread,
                ratio(spread, seconds[OURS]),
            )
            for name, spread in seconds.items()
        )
        header = ("arm", "dtype", "threads", "load and warm-up, s", "one image, s", "over ours")
        return Table(f"{model}: one image, DDIM {self.steps}, guided", header, rows)


NOTE = (
    "From noise to pixels on the host, without HTTP and PNG. Over ours is the arm's time over that of"
    " ours as the service sets itself up; a number above 1 says how many times faster ours is."
)


def _figures(model: str, seconds: Mapping[str, Spread]) -> list[Figure]:
    pairs = {
        "over_fp32": (PEER_FP32, OURS),
        "over_bf16": (PEER_BF16, OURS),
        "fp32_over_fp32": (PEER_FP32, OURS_FP32),
        "over_compiled": (PEER_COMPILED, OURS),
    }
    return [
        Figure(f"{model}.{name}", f"{model}: {above} over {below}", "times", spread)
        for name, (above, below) in pairs.items()
        if above in seconds
        for spread in [ratio(seconds[above], seconds[below])]
    ]
