"""Tick: the forward pass's FLOP/s as a share of the same machine's matmul peak."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench.arms.protocol import ArmSpec, Count
from bench.arms.rounds import Measure, interleaved, ratio
from bench.arms.workers import Worker, running_worker
from bench.models.folders import BUNDLED, XL_256, XL_512, XL_TICK, model_folder
from bench.options import Options
from bench.report.figures import Cell, Figure, Measured, Spread, Table
from bench.report.limits import Work


@dataclass(frozen=True, slots=True)
class Grid:
    """One model's part: every dtype at every row count."""

    model: str
    dtypes: tuple[str, ...]
    rows: tuple[int, ...]
    rounds: int

    def __str__(self) -> str:
        rows = ",".join(map(str, self.rows))
        return f"{self.model} in {'+'.join(self.dtypes)} at {rows} rows, {self.rounds} rounds"


@dataclass(frozen=True, slots=True)
class Tick:
    grids: tuple[Grid, ...]
    matmul_sizes: tuple[int, ...]

    @classmethod
    def planned(cls, options: Options) -> Tick:
        both, rounds = ("float32", "bfloat16"), options.pick(5, 2)
        small = options.pick((1, 2, 4, 8, 16, 32, 64, 128), (1, 2))
        few = Grid(BUNDLED, both, small, options.pick(3, 2))
        grids: tuple[Grid, ...] = (few, Grid(XL_TICK, ("bfloat16",), (2,), rounds))
        if options.on_gpu:
            rows = options.pick((1, 2, 8, 32, 64, 128), (2, 128))
            large = {XL_256: rows, XL_512: rows[:-1]}
            grids = tuple(Grid(name, ("bfloat16",), large[name], rounds) for name in large)
        if options.model is not None:
            grids = tuple(one for one in grids if one.model == options.model) or (
                replace(few, model=options.model),
            )
        sizes = options.by_device((1024, 2048, 4096), (4096, 8192, 16384))
        return cls(grids, options.pick(sizes, sizes[:1]))

    def run(self, options: Options) -> Measured:
        figures: list[Figure] = []
        tables: list[Table] = []
        for grid in self.grids:
            table, found = self._run_grid(grid, options)
            tables.append(table)
            figures += found
        return Measured(tuple(figures), tuple(tables), (NOTE,))

    def _run_grid(self, grid: Grid, options: Options) -> tuple[Table, list[Figure]]:
        folder = model_folder(grid.model, options)
        work = count_work(folder, options)
        rows: list[tuple[Cell, ...]] = []
        figures: list[Figure] = []
        for dtype in grid.dtypes:
            with ExitStack() as stack:
                arms = self._arms(stack, folder, dtype, grid, options)
                size = max(self.matmul_sizes, key=lambda size: arms["matmul"].peak((size,)))
                for count in grid.rows:
                    line = self._measure(arms, count, work, Rounds(grid.rounds, size))
                    rows.append((dtype, str(count), *line.cells()))
                    figures.append(_figure(grid.model, dtype, count, line.ours_share))
        header = ("dtype", "rows", "rows/s", "GFLOP/s", "plain GFLOP/s", "matmul GFLOP/s")
        shares = ("share of the peak", "plain's share", "over plain")
        title = f"{grid.model}: {work.row_macs / 1e9:.4g} GMAC a row"
        return Table(title, header + shares, tuple(rows)), figures

    def _arms(
        self, stack: ExitStack, folder: str, dtype: str, grid: Grid, options: Options
    ) -> dict[str, Worker]:
        most = max(2, *grid.rows)
        specs = {
            "ours": ArmSpec("ours", folder, options.device, dtype, max_rows=most),
            "plain": ArmSpec("plain", folder, options.device, dtype),
            "matmul": ArmSpec("matmul", folder, options.device, dtype),
        }
        return {
            name: stack.enter_context(running_worker(f"tick-{name}-{dtype}", spec, options))
            for name, spec in specs.items()
        }

    def _measure(self, arms: Mapping[str, Worker], rows: int, work: Work, how: Rounds) -> Line:
        flops = work.row_flops(rows)
        measures: dict[str, Measure] = {
            "ours": lambda: flops / arms["ours"].forward(rows),
            "plain": lambda: flops / arms["plain"].forward(rows),
            "peak": lambda: arms["matmul"].peak((how.matmul_size,)),
        }
        speeds = interleaved(measures, how.count)
        return Line(speeds["ours"], speeds["plain"], speeds["peak"], flops / rows)


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many, and the size of the matrices whose product was the fastest before the first."""

    count: int
    matmul_size: int


@dataclass(frozen=True, slots=True)
class Line:
    """FLOP/s at one row count, and FLOP of one row."""

    ours: Spread
    plain: Spread
    peak: Spread
    row_flops: float

    @property
    def ours_share(self) -> Spread:
        return ratio(self.ours, self.peak)

    def cells(self) -> tuple[Cell, ...]:
        giga = [spread.median / 1e9 for spread in (self.ours, self.plain, self.peak)]
        rows_per_second = self.ours.median / self.row_flops
        shares = (self.ours_share, ratio(self.plain, self.peak), ratio(self.ours, self.plain))
        return rows_per_second, *giga, *shares


NOTE = (
    "A tick is a whole denoising step of ours, guidance and sampler update included, but only the"
    " forward pass's FLOP are counted. Plain is model/dit.py called as published code is, eager, layer"
    " by layer, the forward pass alone. The peak is a square product of the size that was the"
    " fastest of several before the first round, taken in every round beside the two."
)


def count_work(folder: str, options: Options) -> Work:
    """By torch's FLOP counter."""
    with running_worker("count", ArmSpec("count", folder, "cpu"), options) as counter:
        return Work(*counter.ask(Count()).values)


def _figure(model: str, dtype: str, rows: int, share: Spread) -> Figure:
    what = f"{model}, {dtype}, {rows} rows: share of the matmul peak"
    return Figure(f"{model}.{dtype}.{rows}.share", what, "", share)
