"""Agree: the same requests simulated, and sent to a real service; the two side by side."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.load.clients import LoadRun, closed_loop, open_loop
from bench.load.fleet import fleet_loop
from bench.load.metrics import difference, read_metrics, rows_per_tick
from bench.load.servers import Server, ServerSpec, running_server
from bench.load.workload import STEPS, Ask, mixed, uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Cell, Measured, Spread, Table, percentile
from bench.simulate.curve import CURVES, TickCurve
from bench.simulate.fleet import simulate
from bench.simulate.outcome import Outcome
from bench.simulate.traffic import requests_of, scheduled
from service.scheduling.fair import fair_scheduler

LOAD = 0.8
TIMEOUT_S = 600.0
EQUAL_STEPS = 50
"""Of the planner's requests, which are all alike."""

MAX_ROWS = 32
CURVE_CLIENTS = (3, 8, 24)
ASKS_EACH, ALONE_ASKS = 3, 12

HTTP = " Latency counts from the scheduled arrival, and has HTTP and the PNG in it, which the simulation has not."
SLEEPING = (
    "Over HTTP: one service with a device that sleeps the CPU's curve (everything but the model is real), with"
    " requests of 10 to 250 steps, log-uniform, at a load of 0.8; and two of them behind a choice of the least"
    " work left (/metrics), with equal requests of 50 steps as the planner has them." + HTTP
)
MODEL = (
    "The curve is that of a busy service, measured just before and just after; the simulation has the mean of"
    " the two. Requests of 10 to 250 steps, log-uniform, at a load of 0.8 by the curve before."
    + HTTP
)


Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Agree:
    """Whether the simulation tells the truth: the same requests simulated, and sent to real services."""

    sleeping: int
    fleet: int

    @classmethod
    def planned(cls, options: Options) -> Agree:
        return cls(*options.pick((700, 1200), (6, 6)))

    def run(self, options: Options) -> Measured:
        curve = CURVES["cpu"]
        return _compared(
            {
                "one": _sleeping(curve, _mixed(curve, self.sleeping), options, 1),
                "two": _sleeping(curve, _equal(curve, self.fleet), options, 2),
            },
            SLEEPING,
        )


@dataclass(frozen=True, slots=True)
class AgreeModel:
    """The same with a real model: its curve is measured, and then a long load is simulated and sent."""

    model: str
    requests: int

    @classmethod
    def planned(cls, options: Options) -> AgreeModel:
        return cls(options.served_model, options.pick(900, 6))

    def run(self, options: Options) -> Measured:
        with running_server(our_server(options)) as server:
            before = measured_curve(server)
            schedule = _mixed(before, self.requests)
            run = open_loop(server.url, schedule)
            after = measured_curve(server)
        simulated = _simulated(between(before, after), schedule)
        rows = tuple(
            (when, str(rows), seconds)
            for when, curve in (("before", before), ("after", after))
            for rows, seconds in curve.points
        )
        compared = _compared({self.model: (_real_figures(run), simulated)}, MODEL)
        curves = Table("The curve", ("measured", "rows", "s"), rows)
        return Measured(compared.figures, (*compared.tables, curves), compared.notes)


def _compared(arms: dict[str, tuple[Figures, Figures]], note: str) -> Measured:
    """Of each arm its real and its simulated figures."""
    figures: dict[str, Spread] = {}
    rows: list[tuple[Cell, ...]] = []
    for arm, (real, simulated) in arms.items():
        for figure, seconds in real.items():
            ratio = seconds / simulated[figure]
            figures[f"{arm}.{figure}"] = Spread((ratio,))
            rows.append((arm, figure, simulated[figure], seconds, ratio))
    header = ("service", "figure", "simulated", "real", "real / simulated")
    return Measured(figures, (Table("Simulated and real", header, tuple(rows)),), (note,))


def _sleeping(
    curve: TickCurve, schedule: list[tuple[float, Ask]], options: Options, engines: int
) -> tuple[Figures, Figures]:
    """Figures of the real services, and of the simulated ones."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(running_server(sleeping_server(curve, options, str(each))))
            for each in range(engines)
        ]
        urls = [server.url for server in started]
        run = fleet_loop(urls, schedule) if engines > 1 else open_loop(urls[0], schedule)
    return _real_figures(run), _simulated(curve, schedule, engines)


def sleeping_server(curve: TickCurve, options: Options, name: str) -> ServerSpec:
    """A service whose ticks sleep this curve."""
    path = options.log(f"sleeping {name}").with_suffix(".json")
    path.write_text(json.dumps(asdict(curve)), encoding="utf-8")
    ours = our_server(options, name=f"sleeping {name}", module="bench.peers.sleeping")
    return ServerSpec(ours.module, (str(path),), ours.environment, log=ours.log)


def measured_curve(server: Server) -> TickCurve:
    """Of a busy service: what a tick takes with all that goes on beside it, decoder, HTTP and files.

    The first point is of a single image, from its stages; each of the others of clients that always
    have a request in, by the wall time over the ticks.
    """
    asks = mixed(ALONE_ASKS, seed=2, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
    alone = [each for each in closed_loop(server.url, asks, 1).outcomes if each.ask.cfg_scale > 1]
    steps_s = [each.stages["denoise"] / each.ask.num_sampling_steps for each in alone]
    points = [(2, statistics.median(steps_s))]
    for clients in CURVE_CLIENTS:
        asks = mixed(ASKS_EACH * clients, seed=3, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
        before = read_metrics(server.url)
        run = closed_loop(server.url, asks, clients)
        added = difference(read_metrics(server.url), before)
        points.append((round(rows_per_tick(added)), run.seconds / added["dit_tick_rows_count", ""]))
    return TickCurve("measured", MAX_ROWS, tuple(dict(points).items()))


def between(before: TickCurve, after: TickCurve) -> TickCurve:
    """The mean of two curves."""
    rows = sorted({rows for curve in (before, after) for rows, _ in curve.points})
    points = tuple((each, (before.seconds(each) + after.seconds(each)) / 2) for each in rows)
    return TickCurve(before.name, before.max_rows, points, (before.decode_s + after.decode_s) / 2)


def _mixed(curve: TickCurve, count: int) -> list[tuple[float, Ask]]:
    asks = mixed(count, seed=1, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
    return scheduled(curve, asks, LOAD, 1)


def _equal(curve: TickCurve, count: int) -> list[tuple[float, Ask]]:
    return scheduled(curve, uniform(count, steps=EQUAL_STEPS), 2 * LOAD, 1)


def _real_figures(run: LoadRun) -> dict[str, float]:
    return _figures(run.latencies(), run.latencies_per_step(), len(run.good) / run.seconds)


def _simulated(
    curve: TickCurve, schedule: Sequence[tuple[float, Ask]], engines: int = 1
) -> dict[str, float]:
    outcomes = simulate(curve, requests_of(schedule), fair_scheduler, engines=engines)
    return _figures(
        [each.latency for each in outcomes],
        [each.latency / each.request.steps for each in outcomes],
        _rate(outcomes),
    )


def _rate(outcomes: Sequence[Outcome]) -> float:
    ends = [each.ended for each in outcomes if each.ended is not None]
    return len(ends) / max(ends)


def _figures(latencies: list[float], per_step: list[float], rate: float) -> dict[str, float]:
    return {
        "p50, s": percentile(latencies, 50),
        "p95, s": percentile(latencies, 95),
        "p95 of latency over steps, s": percentile(per_step, 95),
        "images/s": rate,
    }
