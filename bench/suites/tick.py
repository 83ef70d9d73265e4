"""Tick: speed of one denoising step, compared with the machine's best matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.arms.models import XL_TICK, model_folder
from bench.arms.protocol import ArmSpec
from bench.arms.workers import Worker, running_workers
from bench.options import BUNDLED, XL_256, XL_512, Options
from bench.report.figures import Cell, Measured, Spread, Table
from bench.suites.limits import Work, count_work
from bench.suites.rounds import Measure, interleaved

NOTE = (
    "Our tick is a whole denoising step, including guidance and sampler update, but only the forward"
    " pass's FLOP are counted. Plain is model/networks/dit.py called like the published code: the forward"
    " pass alone, eager, layer by layer. The peak is a square matrix product, measured in every round;"
    " its size is the fastest of several before the first round."
)
HEADER = (
    "dtype",
    "rows",
    "rows/s",
    "GFLOP/s",
    "plain GFLOP/s",
    "matmul GFLOP/s",
    "fraction of the peak",
    "plain's fraction",
    "ours / plain",
)


@dataclass(frozen=True, slots=True)
class Grid:
    """One model in every dtype at every row count."""

    model: str
    dtypes: tuple[str, ...]
    rows: tuple[int, ...]
    rounds: int

    def __str__(self) -> str:
        rows = ",".join(map(str, self.rows))
        return f"{self.model} in {'+'.join(self.dtypes)} at {rows} rows, {self.rounds} rounds"


@dataclass(frozen=True, slots=True)
class Tick:
    """FLOP/s of the forward pass as a fraction of the same machine's matmul peak."""

    grids: tuple[Grid, ...]
    matmul_sizes: tuple[int, ...]

    @classmethod
    def planned(cls, options: Options) -> Tick:
        rounds, bf16 = options.pick(5, 2), ("bfloat16",)
        rows = options.pick((1, 2, 4, 8, 16, 32, 64, 128), (1, 2))
        few = Grid(BUNDLED, ("float32", "bfloat16"), rows, options.pick(3, 2))
        grids: tuple[Grid, ...] = (few, Grid(XL_TICK, bf16, (2,), rounds))
        if options.on_gpu:
            rows = options.pick((1, 2, 8, 32, 64, 128), (2, 128))
            grids = (Grid(XL_256, bf16, rows, rounds), Grid(XL_512, bf16, rows[:-1], rounds))
        if options.model is not None:
            asked = tuple(grid for grid in grids if grid.model == options.model)
            grids = asked or (replace(few, model=options.model),)
        sizes = options.by_device((1024, 2048, 4096), (4096, 8192, 16384))
        return cls(grids, options.pick(sizes, sizes[:1]))

    def run(self, options: Options) -> Measured:
        figures: dict[str, Spread] = {}
        tables: list[Table] = []
        for grid in self.grids:
            work = count_work(grid.model, options)
            speeds = self._speeds(grid, work, options)
            lines = tuple((dtype, str(n), *speed.cells()) for (dtype, n), speed in speeds.items())
            title = f"{grid.model}: {work.row_macs / 1e9:.4g} GMAC per row"
            tables.append(Table(title, HEADER, lines))
            figures |= {
                f"{grid.model}.{dtype}.{rows}.share": speed.share
                for (dtype, rows), speed in speeds.items()
            }
        return Measured(figures, tuple(tables), (NOTE,))

    def _speeds(self, grid: Grid, work: Work, options: Options) -> dict[tuple[str, int], Speed]:
        """By (dtype, rows)."""
        folder = model_folder(grid.model, options)
        speeds = {}
        for dtype in grid.dtypes:
            specs = {
                "ours": ArmSpec("ours", folder, options.device, dtype, max(2, *grid.rows)),
                "plain": ArmSpec("plain", folder, options.device, dtype),
                "matmul": ArmSpec("matmul", folder, options.device, dtype),
            }
            with running_workers(specs, options) as arms:
                size = max(self.matmul_sizes, key=lambda size: arms["matmul"].peak((size,)))
                for rows in grid.rows:
                    speeds[dtype, rows] = _measure(arms, rows, work, size, grid.rounds)
        return speeds


@dataclass(frozen=True, slots=True)
class Speed:
    """FLOP/s at one row count, and the FLOP of one row."""

    ours: Spread
    plain: Spread
    peak: Spread
    row_flops: float

    @property
    def share(self) -> Spread:
        return self.ours.over(self.peak)

    def cells(self) -> tuple[Cell, ...]:
        giga = [spread.median / 1e9 for spread in (self.ours, self.plain, self.peak)]
        ratios = (self.share, self.plain.over(self.peak), self.ours.over(self.plain))
        return self.ours.median / self.row_flops, *giga, *ratios


def _measure(arms: Mapping[str, Worker], rows: int, work: Work, size: int, rounds: int) -> Speed:
    flops = work.row_flops(rows)
    measures: dict[str, Measure] = {
        "ours": lambda: flops / arms["ours"].step(rows),
        "plain": lambda: flops / arms["plain"].step(rows),
        "peak": lambda: arms["matmul"].peak((size,)),
    }
    speeds = interleaved(measures, rounds)
    return Speed(speeds["ours"], speeds["plain"], speeds["peak"], flops / rows)
