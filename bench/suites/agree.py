"""Agree: the same requests simulated, and sent to a real service; the two side by side."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.load.fleet import fleet_loop
from bench.load.servers import ServerSpec, running_server
from bench.load.workload import STEPS, Ask, mixed, uniform
from bench.options import Options
from bench.peers.specs import our_server
from bench.report.figures import Measured
from bench.simulate.curve import CURVES, TickCurve
from bench.simulate.fleet import simulate
from bench.simulate.plan import plan
from bench.simulate.traffic import requests_of, scheduled
from bench.suites.likeness import Figures, compared, simulated_figures
from bench.suites.observed import TIMEOUT_S, Observed, busy_curve
from service.scheduling.fair import fair_scheduler

LOAD = 0.8
REPLICAS = 2
EQUAL_STEPS = 50
"""Of the planner's requests, which are all alike."""

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
        return compared(
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
        table = compared(
            {
                self.model: (seen.run, seen.simulated()),
                f"{self.model}, were its speed steady": (seen.run, seen.simulated(steadily=True)),
            },
            MODEL,
        )
        return Measured(table.figures, (*table.tables, seen.device_table()), table.notes)


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
    figures = simulated_figures(outcomes)
    planned = plan(curve, requests, figures["p95, s"])
    if planned.devices != REPLICAS:
        raise RuntimeError(f"the planner wants {planned.devices} devices, not {REPLICAS}")
    return PlannersAnswer(schedule, figures)


def sleeping_server(curve: TickCurve, options: Options, name: str) -> ServerSpec:
    """A service whose ticks sleep this curve."""
    path = options.log(f"sleeping {name}").with_suffix(".json")
    path.write_text(json.dumps(asdict(curve)), encoding="utf-8")
    ours = our_server(options, name=f"sleeping {name}", module="bench.peers.sleeping")
    return ServerSpec(ours.module, (str(path),), ours.environment, log=ours.log)


def _mixed(curve: TickCurve, count: int) -> list[tuple[float, Ask]]:
    asks = mixed(count, seed=1, timeout_s=TIMEOUT_S, steps=STEPS["log-uniform"])
    return scheduled(curve, asks, LOAD, 1)
