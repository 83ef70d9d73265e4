"""Mixed: requests of all sizes at the times of a Poisson process, whether or not ours keeps up."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from bench.load.clients import LoadRun, closed_loop, open_loop
from bench.load.metrics import Counts, counts_in, read_metrics
from bench.load.servers import Server, running_server
from bench.load.workload import mixed, poisson, steps_log_uniform, steps_uniform
from bench.models.folders import BUNDLED, XL_256
from bench.options import Options
from bench.report.figures import Cell, Figure, Measured, Spread, Table, percentile
from bench.suites.arms import CLASSES
from bench.suites.peers import STATIC, our_server, static_server

OURS = "ours"
TARGET_SHARE = 0.8
STEPS: dict[str, Callable[[random.Random], int]] = {
    "uniform": steps_uniform,
    "log-uniform": steps_log_uniform,
}


@dataclass(frozen=True, slots=True)
class Point:
    """One load: how the steps are drawn, at which share of the capacity, seen how often, how long."""

    steps: str
    share: float
    rounds: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.share:g} of capacity ({self.steps} steps, {self.rounds} x {self.seconds:g} s)"
        )


@dataclass(frozen=True, slots=True)
class Mixed:
    model: str
    capacity_requests: int
    clients: int
    timeout_s: float
    points: tuple[Point, ...]

    @classmethod
    def planned(cls, options: Options) -> Mixed:
        (model,) = options.models(options.by_device(BUNDLED, XL_256))
        others = [Point("uniform", share, 1, 20.0) for share in (0.2, 0.5, 1.0, 1.2)]
        full = (
            Point("uniform", TARGET_SHARE, 3, 45.0),
            *others,
            Point("log-uniform", TARGET_SHARE, 3, 30.0),
        )
        quick = (Point("uniform", TARGET_SHARE, 1, 3.0),)
        return cls(
            model=model,
            capacity_requests=options.pick(192, 8),
            clients=options.by_device(32, 128),
            timeout_s=60.0,
            points=options.pick(full, quick),
        )

    def run(self, options: Options) -> Measured:
        specs = {OURS: our_server(self.model, options), STATIC: static_server(self.model, options)}
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(running_server(spec, options))
                for name, spec in specs.items()
            }
            for server in servers.values():  # warm: the first answers pay for what is built once
                self._capacity(server, "uniform", self.capacity_requests // 8)
            capacities = {
                (name, steps): self._capacity(server, steps, self.capacity_requests)
                for steps in dict.fromkeys(point.steps for point in self.points)
                for name, server in servers.items()
            }
            seen = {
                point: self._rounds(point, servers, capacities[OURS, point.steps])
                for point in self.points
            }
        tables = (_capacities(capacities), self._latencies(seen))
        return Measured(tuple(_figures(seen)), tables, (NOTE,))

    def _capacity(self, server: Server, steps: str, requests: int) -> float:
        """Requests a second with so many always in."""
        orders = mixed(requests, classes=CLASSES, seed=99, timeout_s=3000.0, steps=STEPS[steps])
        return closed_loop(server.url, orders, self.clients).steady_rate(self.clients)

    def _rounds(
        self, point: Point, servers: Mapping[str, Server], capacity: float
    ) -> dict[str, list[PointRun]]:
        """Each round has a schedule of its own, the same for both arms."""
        rate = point.share * capacity
        runs: dict[str, list[PointRun]] = {name: [] for name in servers}
        for seed in range(point.rounds):
            orders = mixed(
                max(2, round(rate * point.seconds)),
                classes=CLASSES,
                seed=seed,
                timeout_s=self.timeout_s,
                steps=STEPS[point.steps],
            )
            schedule = poisson(orders, rate, seed)
            for name, server in servers.items():
                before = counts_in(read_metrics(server.url))
                run = open_loop(server.url, schedule)
                counts = counts_in(read_metrics(server.url)) - before
                runs[name].append(PointRun(rate, run, counts))
        return runs

    def _latencies(self, seen: Mapping[Point, Mapping[str, list[PointRun]]]) -> Table:
        rows = [
            (point.steps, point.share, *cells)
            for point, runs in seen.items()
            for cells in _lines(runs)
        ]
        title = (
            f"{self.model}: steps 10 .. 250, guidance 1 .. 8, all samplers;"
            f" each request ends within {self.timeout_s:g} s or fails"
        )
        return Table(title, HEADER, tuple(rows))


@dataclass(frozen=True, slots=True)
class PointRun:
    """One round of one arm: requests offered a second, what came of them, what was computed."""

    rate: float
    run: LoadRun
    counts: Counts

    def percentile(self, percent: float) -> float:
        return percentile(self.run.latencies(), percent)

    @property
    def p95_by_step(self) -> float:
        return percentile(self.run.latencies_by_step(), 95)


HEADER = (
    "steps drawn",
    "share of our capacity",
    "arm",
    "offered/s",
    "goodput/s",
    "p50, s",
    "p95, s",
    "p99, s",
    "p95 over ours",
    "p95 of latency / steps, ms",
    "the same over ours",
    "rows a tick",
    "waste",
)

NOTE = (
    "Latency counts from the time at which the schedule has a request arrive; one that failed counts"
    " as its timeout. Capacity is what a closed loop gets through while all of its clients are busy."
    " Waste is padding and row-steps of images that nobody got, as a share of all. The static batcher"
    " is our own engine with joining"
    " switched off: a batch runs to its end, then all that wait go in, up to the rows of a tick; what"
    " it has finished it hands out at once, and its rows are computed no longer. p95 is made by the"
    " longest requests, which both arms serve late; latency over steps tells what a short one waits"
    " for its size."
)


def _lines(runs: Mapping[str, list[PointRun]]) -> list[tuple[Cell, ...]]:
    ours = runs[OURS]
    lines: list[tuple[Cell, ...]] = []
    for name, rounds in runs.items():
        p50, p95, p99 = (Spread(tuple(one.percentile(p) for one in rounds)) for p in (50, 95, 99))
        over = [a.percentile(95) / b.percentile(95) for a, b in zip(rounds, ours)]
        by_step = Spread(tuple(1e3 * one.p95_by_step for one in rounds))
        step_over = [a.p95_by_step / b.p95_by_step for a, b in zip(rounds, ours)]
        goodput = Spread(tuple(one.run.goodput for one in rounds))
        rows = sum(one.counts.rows_per_tick for one in rounds) / len(rounds)
        waste = sum(one.counts.waste for one in rounds) / len(rounds)
        rate = rounds[0].rate
        overs = (Spread(tuple(over)), by_step, Spread(tuple(step_over)))
        lines.append((name, rate, goodput, p50, p95, p99, *overs, rows, waste))
    return lines


def _capacities(capacities: Mapping[tuple[str, str], float]) -> Table:
    rows = tuple((steps, name, rate) for (name, steps), rate in capacities.items())
    return Table("Capacity in a closed loop", ("steps drawn", "arm", "requests/s"), rows)


def _figures(seen: Mapping[Point, Mapping[str, list[PointRun]]]) -> list[Figure]:
    figures = []
    for point, runs in seen.items():
        pairs = zip(runs[STATIC], runs[OURS])
        over = Spread(tuple(a.percentile(95) / b.percentile(95) for a, b in pairs))
        what = f"p95 of the static batcher over ours, {point.steps} steps at {point.share:g}"
        figures.append(Figure(f"p95.{point.steps}.{point.share:g}", what, "times", over))
    return figures
