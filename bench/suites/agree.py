"""Agree: the same requests simulated, and sent to a real service; the two side by side."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.load.clients import LoadRun, closed_loop, open_loop
from bench.load.clients import Outcome as Answered
from bench.load.fleet import fleet_loop
from bench.load.servers import Server, ServerSpec, running_server
from bench.load.stretches import Stretch, watched
from bench.load.workload import STEPS, Ask, mixed, uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Cell, Measured, Spread, Table, percentile
from bench.simulate.curve import CURVES, TickCurve
from bench.simulate.engine import Slowness, steady
from bench.simulate.fleet import simulate
from bench.simulate.observed import observed_curve, observed_slowness
from bench.simulate.outcome import Outcome
from bench.simulate.plan import plan
from bench.simulate.traffic import requests_of, scheduled
from service.scheduling.fair import fair_scheduler

LOAD = 0.8
TIMEOUT_S = 600.0
REPLICAS = 2
EQUAL_STEPS = 50
"""Of the planner's requests, which are all alike."""

MAX_ROWS = 32
CURVE_CLIENTS = (1, 3, 8, 24)
ASKS_EACH = 4

ENGINE = (
    " Latency is the engine's, from admission to the decoded image, as the simulation has it; what HTTP, the file"
    " and the network add is in a row of its own."
)
SLEEPING = (
    "Over HTTP, with a device that sleeps the CPU's curve; everything but the model is real. One service:"
    " requests of 10 to 250 steps, log-uniform, at a load of 0.8; the simulation has the curve as observed"
    " during the load, with the host's work between ticks. Two services behind a choice of the least work left"
    " (/metrics): equal requests of 50 steps, as the planner has them, beside the planner's answer for the"
    " curve itself." + ENGINE
)
MODEL = (
    "Requests of 10 to 250 steps, log-uniform, at a load of 0.8 by the curve of a busy service before. The"
    " simulation has the device as observed during the load: the line nearest to its ticks, and how much slower"
    " or faster it was in each second; and for comparison the line alone." + ENGINE
)
STAGES = ("queue", "denoise", "decode")


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
        schedule = _mixed(curve, self.sleeping)
        with running_server(sleeping_server(curve, options, "one")) as server:
            one = Observed.of(server, schedule)
        answer = planners_answer(curve, self.fleet)
        with ExitStack() as stack:
            started = [
                stack.enter_context(running_server(sleeping_server(curve, options, str(each))))
                for each in range(REPLICAS)
            ]
            two = fleet_loop([server.url for server in started], answer.schedule)
        return _compared(
            {
                "one": (one.run, one.simulated()),
                "two, and the planner": (two, answer.figures),
            },
            SLEEPING,
        )


@dataclass(frozen=True, slots=True)
class AgreeModel:
    """The same with a real model, whose ticks are observed during the load."""

    model: str
    requests: int

    @classmethod
    def planned(cls, options: Options) -> AgreeModel:
        return cls(options.served_model, options.pick(900, 6))

    def run(self, options: Options) -> Measured:
        with running_server(our_server(options)) as server:
            seen = Observed.of(server, _mixed(busy_curve(server), self.requests))
        compared = _compared(
            {
                self.model: (seen.run, seen.simulated()),
                f"{self.model}, were its speed steady": (seen.run, seen.simulated(steadily=True)),
            },
            MODEL,
        )
        return Measured(compared.figures, (*compared.tables, seen.device_table()), compared.notes)


@dataclass(frozen=True, slots=True)
class Observed:
    """A load on a real service, and what its device did."""

    schedule: Sequence[tuple[float, Ask]]
    run: LoadRun
    stretches: Sequence[Stretch]
    curve: TickCurve

    @classmethod
    def of(cls, server: Server, schedule: Sequence[tuple[float, Ask]]) -> Observed:
        with watched(server.url) as stretches:
            run = open_loop(server.url, schedule)
        curve = observed_curve(stretches, images=len(schedule), max_rows=MAX_ROWS)
        return cls(schedule, run, stretches, curve)

    def simulated(self, *, steadily: bool = False) -> Figures:
        """The same requests on this device, or on one that is always as fast as this one on average."""
        slowness = steady if steadily else self._slowness
        requests = requests_of(self.schedule)
        return _simulated_figures(simulate(self.curve, requests, fair_scheduler, slowness=slowness))

    def device_table(self) -> Table:
        """What the simulation was given."""
        ends = [each.began - self.run.began for each in self.stretches]
        factors = [self._slowness(end) for end in ends]
        slowness = tuple(percentile(factors, q) for q in (5, 50, 95))
        header = ("tick of 1 row, s", f"of {MAX_ROWS}", "decode, s", "slowness p5", "p50", "p95")
        seconds = (self.curve.seconds(1), self.curve.seconds(MAX_ROWS), self.curve.decode_s)
        return Table("The device during the load", header, ((*seconds, *slowness),))

    @property
    def _slowness(self) -> Slowness:
        return observed_slowness(self.stretches, self.curve, self.run.began)


@dataclass(frozen=True, slots=True)
class PlannersAnswer:
    """The planner's requests at a load of two devices, and what it says of them."""

    schedule: list[tuple[float, Ask]]
    figures: Figures


def planners_answer(curve: TickCurve, count: int) -> PlannersAnswer:
    """For `REPLICAS` devices.

    Raises:
        RuntimeError: the planner wants another number of them.
    """
    schedule = scheduled(curve, uniform(count, steps=EQUAL_STEPS), REPLICAS * LOAD, 1)
    requests = requests_of(schedule)
    outcomes = simulate(curve, requests, fair_scheduler, engines=REPLICAS)
    figures = _simulated_figures(outcomes)
    planned = plan(curve, requests, figures["p95, s"])
    if planned.devices != REPLICAS:
        raise RuntimeError(f"the planner wants {planned.devices} devices, not {REPLICAS}")
    return PlannersAnswer(schedule, figures)


def _compared(arms: dict[str, tuple[LoadRun, Figures]], note: str) -> Measured:
    """Of each arm its real and its simulated figures."""
    figures: dict[str, Spread] = {}
    rows: list[tuple[Cell, ...]] = []
    for arm, (run, simulated) in arms.items():
        for figure, seconds in _real_figures(run).items():
            ratio = seconds / simulated[figure]
            figures[f"{arm}.{figure}"] = Spread((ratio,))
            rows.append((arm, figure, simulated[figure], seconds, ratio))
        rows.append((arm, "added by HTTP, median, s", None, _added_by_http(run), None))
    header = ("service", "figure", "simulated", "real", "real / simulated")
    return Measured(figures, (Table("Simulated and real", header, tuple(rows)),), (note,))


def sleeping_server(curve: TickCurve, options: Options, name: str) -> ServerSpec:
    """A service whose ticks sleep this curve."""
    path = options.log(f"sleeping {name}").with_suffix(".json")
    path.write_text(json.dumps(asdict(curve)), encoding="utf-8")
    ours = our_server(options, name=f"sleeping {name}", module="bench.peers.sleeping")
    return ServerSpec(ours.module, (str(path),), ours.environment, log=ours.log)


def busy_curve(server: Server) -> TickCurve:
    """Of a service with clients that always have a request in: few, more, and many of them."""
    stretches: list[Stretch] = []
    images = 0
    for clients in CURVE_CLIENTS:
        asks = mixed(ASKS_EACH * clients, seed=3, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
        with watched(server.url) as some:
            closed_loop(server.url, asks, clients)
        stretches += some
        images += len(asks)
    return observed_curve(stretches, images=images, max_rows=MAX_ROWS)


def _mixed(curve: TickCurve, count: int) -> list[tuple[float, Ask]]:
    asks = mixed(count, seed=1, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
    return scheduled(curve, asks, LOAD, 1)


def _real_figures(run: LoadRun) -> Figures:
    latencies = [_engine_seconds(each) for each in run.outcomes]
    steps = [each.ask.num_sampling_steps for each in run.outcomes]
    return _figures(latencies, steps, len(run.good) / run.seconds)


def _engine_seconds(outcome: Answered) -> float:
    """A failure counts as at least its timeout."""
    if not outcome.good:
        return outcome.latency
    return sum(outcome.stages[stage] for stage in STAGES)


def _added_by_http(run: LoadRun) -> float:
    return statistics.median(each.latency - _engine_seconds(each) for each in run.outcomes)


def _simulated_figures(outcomes: Sequence[Outcome]) -> Figures:
    ends = [each.ended for each in outcomes if each.ended is not None]
    latencies = [each.latency for each in outcomes]
    return _figures(latencies, [each.request.steps for each in outcomes], len(ends) / max(ends))


def _figures(latencies: Sequence[float], steps: Sequence[int], rate: float) -> Figures:
    per_step = [latency / each for latency, each in zip(latencies, steps, strict=True)]
    return {
        "p50, s": percentile(latencies, 50),
        "p95, s": percentile(latencies, 95),
        "p95 of latency over steps, s": percentile(per_step, 95),
        "images/s": rate,
    }
