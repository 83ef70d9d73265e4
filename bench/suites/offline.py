"""Offline: throughput by batch size, without HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from bench.arms.agreement import agreement
from bench.arms.specs import AGREED, OURS, OURS_FP32, PEER_FP32, arms_of, draw_of
from bench.arms.workers import Worker, running_workers
from bench.options import Options
from bench.report.figures import Cell, Measured, Spread, Table
from bench.suites.limits import Limit, limit_of
from bench.suites.rounds import interleaved

NOTE = (
    "All images of a cell start and end together, in every arm. The limit is what the machine's best"
    " matrix product allows: peak / (steps x 2 rows x 2 MAC + 2 x the decoder's MAC)."
)


@dataclass(frozen=True, slots=True)
class Offline:
    """Offline throughput: images/s by batch size, without HTTP."""

    models: tuple[str, ...]
    images: tuple[int, ...]
    steps: tuple[int, ...]
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Offline:
        images = options.by_device((1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32, 64))
        return cls(
            options.offline_models,
            options.pick(images, (1, 2)),
            options.pick((10, 20, 50), (4,)),
            options.pick(options.by_device(3, 2), 2),
        )

    def run(self, options: Options) -> Measured:
        figures: dict[str, Spread] = {}
        tables: list[Table] = []
        for model in self.models:
            agreed, grid = self._run_model(model, options)
            tables += [agreed, grid.table()]
            figures |= grid.figures()
        return Measured(figures, tuple(tables), (NOTE,))

    def _run_model(self, model: str, options: Options) -> tuple[Table, Grid]:
        specs = arms_of(model, options, max_rows=2 * max(self.images))
        with running_workers(specs, options) as workers:
            agreed = agreement(workers, PEER_FP32, AGREED)
            limit = limit_of(model, workers[OURS].ready.dtype, options)
            # our fp32 serves the agreement only; on a GPU so does diffusers'
            untimed = {OURS_FP32, PEER_FP32} if options.on_gpu else {OURS_FP32}
            timed = {name: worker for name, worker in workers.items() if name not in untimed}
            cells = {
                (steps, images): self._seconds(timed, images, steps)
                for steps in self.steps
                for images in self.images
            }
        return agreed, Grid(model, limit, cells)

    def _seconds(self, workers: Mapping[str, Worker], images: int, steps: int) -> dict[str, Spread]:
        draw = draw_of(images, steps)
        arms = {name: partial(worker.draw, draw) for name, worker in workers.items()}
        return interleaved(arms, self.rounds, warm_ups=int(images * steps <= 50))


@dataclass(frozen=True, slots=True)
class Grid:
    """One model's results. ``cells``: seconds of each arm by (steps, images)."""

    model: str
    limit: Limit
    cells: dict[tuple[int, int], dict[str, Spread]]

    def table(self) -> Table:
        peers = [arm for arm in next(iter(self.cells.values())) if arm != OURS]
        rates = (f"{arm}, images/s" for arm in (OURS, *peers))
        ratios = (f"ours / {arm}" for arm in peers)
        peak = f"{self.limit.peak / 1e9:.4g} GFLOP/s"
        return Table(
            f"{self.model}: throughput, DDIM, guided; matmul {peak}",
            ("steps", "images", *rates, *ratios, "fraction of the limit"),
            tuple(self._row(*cell, peers) for cell in self.cells),
        )

    def figures(self) -> dict[str, Spread]:
        figures = {}
        for (steps, images), seconds in self.cells.items():
            rate = seconds[OURS].rate_of(images)
            figures[f"{self.model}.{steps}.{images}.rate"] = rate
            figures[f"{self.model}.{steps}.{images}.share"] = self.limit.share(rate, steps)
        return figures

    def _row(self, steps: int, images: int, peers: list[str]) -> tuple[Cell, ...]:
        seconds = self.cells[steps, images]
        rates = [images / seconds[arm].median for arm in (OURS, *peers)]
        ratios = [seconds[arm].over(seconds[OURS]) for arm in peers]
        share = self.limit.share(seconds[OURS].rate_of(images), steps).median
        return str(steps), str(images), *rates, *ratios, share
