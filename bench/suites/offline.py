"""Offline: images a second, so many together, without HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from bench.arms.agreement import agreement
from bench.arms.protocol import ArmSpec
from bench.arms.rounds import interleaved, rate, ratio
from bench.arms.workers import Worker, running_worker, running_workers
from bench.models.folders import BUNDLED, XL_256, XL_512, model_folder
from bench.options import Options
from bench.report.figures import Cell, Figure, Measured, Spread, Table
from bench.report.limits import Work, images_per_second
from bench.suites.arms import AGREED, OURS, OURS_FP32, PEER_FP32, arms_of, draw_of
from bench.suites.tick import count_work


@dataclass(frozen=True, slots=True)
class Offline:
    models: tuple[str, ...]
    images: tuple[int, ...]
    steps: tuple[int, ...]
    matmul_size: int
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Offline:
        models = options.models(*options.by_device((BUNDLED,), (XL_256, XL_512)))
        images = options.by_device((1, 2, 4, 8, 16, 32), (1, 2, 4, 8, 16, 32, 64))
        return cls(
            models,
            options.pick(images, (1, 2)),
            options.pick((10, 20, 50), (4,)),
            options.by_device(2048, 8192),
            options.pick(options.by_device(3, 2), 2),
        )

    def run(self, options: Options) -> Measured:
        figures: list[Figure] = []
        tables: list[Table] = []
        for model in self.models:
            grid = self._run_model(model, options)
            tables += [grid.agreed, grid.table()]
            figures += grid.figures()
        return Measured(tuple(figures), tuple(tables), (NOTE,))

    def _run_model(self, model: str, options: Options) -> GridResult:
        specs = arms_of(model, options, max_rows=2 * max(self.images))
        work = count_work(model_folder(model, options), options)
        with running_workers(specs, options) as workers:
            agreed = agreement(workers, PEER_FP32, AGREED)
            timed = {name: workers[name] for name in self._timed(options, workers)}
            peak = self._peak(workers[OURS].ready.dtype, options)
            cells = {
                (steps, images): self._seconds(timed, images, steps)
                for steps in self.steps
                for images in self.images
            }
        return GridResult(model, agreed, work, peak, cells)

    def _timed(self, options: Options, workers: Mapping[str, Worker]) -> list[str]:
        """Fp32 of ours is there for the agreement alone, and on a GPU that of diffusers too."""
        left_out = {OURS_FP32, PEER_FP32} if options.on_gpu else {OURS_FP32}
        return [name for name in workers if name not in left_out]

    def _seconds(self, workers: Mapping[str, Worker], images: int, steps: int) -> dict[str, Spread]:
        draw = draw_of(images, steps)
        arms = {name: partial(worker.draw, draw) for name, worker in workers.items()}
        return interleaved(arms, self.rounds, warm_ups=int(images * steps <= 50))

    def _peak(self, dtype: str, options: Options) -> float:
        spec = ArmSpec("matmul", "", options.device, dtype)
        with running_worker("offline-matmul", spec, options) as matmul:
            return matmul.peak((self.matmul_size,) * 3)


@dataclass(frozen=True, slots=True)
class GridResult:
    """One model's grid: seconds by arm, by (steps, images)."""

    model: str
    agreed: Table
    work: Work
    peak: float
    cells: dict[tuple[int, int], dict[str, Spread]]

    def table(self) -> Table:
        arms = list(next(iter(self.cells.values())))
        header = ("steps", "images", *(f"{arm}, images/s" for arm in arms))
        header += (*(f"over {arm}" for arm in arms[1:]), "share of the limit")
        title = f"{self.model}: images a second, DDIM, guided; matmul {self.peak / 1e9:.4g} GFLOP/s"
        return Table(title, header, tuple(self._row(*place, arms) for place in self.cells))

    def _row(self, steps: int, images: int, arms: list[str]) -> tuple[Cell, ...]:
        seconds = self.cells[steps, images]
        rates = [images / seconds[arm].median for arm in arms]
        overs = [ratio(seconds[arm], seconds[OURS]) for arm in arms[1:]]
        return str(steps), str(images), *rates, *overs, self._share(steps, images).median

    def _share(self, steps: int, images: int) -> Spread:
        limit = images_per_second(self.peak, self.work, steps)
        rates = rate(images, self.cells[steps, images][OURS])
        return Spread(tuple(value / limit for value in rates.rounds))

    def figures(self) -> list[Figure]:
        figures = []
        for (steps, images), seconds in self.cells.items():
            place = f"{self.model}.{steps}.{images}"
            what = f"{self.model}: {images} images of {steps} steps"
            figures.append(Figure(f"{place}.rate", what, "images/s", rate(images, seconds[OURS])))
            share = self._share(steps, images)
            figures.append(Figure(f"{place}.share", f"{what}, share of the limit", "", share))
        return figures


NOTE = (
    "All images of a cell start and end together, in every arm. The limit is what the machine's best"
    " matrix product would allow: peak / (steps x 2 rows x 2 MAC + 2 x the decoder's MAC)."
)
