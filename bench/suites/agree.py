"""Agree: the same requests simulated, and sent to a real service; the two side by side."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import httpx

from bench.load.clients import PATH, LoadRun, open_loop, stages_of
from bench.load.fleet import fleet_loop
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

CURVE_IMAGES = (1, 4, 8, 16)
"""Guided images of a request by which the curve is measured: with nothing else in, it fills its ticks."""

CURVE_STEPS = 30
NOTE = (
    "Over HTTP: the service with a device that sleeps the CPU's curve (everything but the model is real), with"
    " two such services behind a choice of the least work left (/metrics), and with the bundled model, whose"
    " curve is measured just before and just after. Requests of 10 to 250 steps, log-uniform, at a load of 0.8;"
    " for two services equal ones of 50 steps, as the planner has them. Latency counts from the scheduled"
    " arrival, and has HTTP and the PNG in it, which the simulation has not."
)


@dataclass(frozen=True, slots=True)
class Agree:
    """Whether the simulation tells the truth: the same requests simulated and sent over HTTP."""

    model: str
    sleeping: int
    fleet: int
    real: int

    @classmethod
    def planned(cls, options: Options) -> Agree:
        sleeping, fleet, real = options.pick((700, 1200, 900), (6, 6, 6))
        return cls(options.served_model, sleeping, fleet, real)

    def run(self, options: Options) -> Measured:
        slept, two = CURVES["cpu"], CURVES["cpu"]
        arms = {
            "sleeping": self._sleeping(slept, _mixed(slept, self.sleeping), options),
            "two sleeping": self._sleeping(two, _equal(two, self.fleet), options, engines=2),
            "bundled model": self._real(options),
        }
        figures: dict[str, Spread] = {}
        rows: list[tuple[Cell, ...]] = []
        for arm, (real, simulated) in arms.items():
            for figure, seconds in real.items():
                ratio = seconds / simulated[figure]
                figures[f"{arm}.{figure}"] = Spread((ratio,))
                rows.append((arm, figure, simulated[figure], seconds, ratio))
        header = ("service", "figure", "simulated", "real", "real / simulated")
        return Measured(figures, (Table("Simulated and real", header, tuple(rows)),), (NOTE,))

    def _sleeping(
        self,
        curve: TickCurve,
        schedule: list[tuple[float, Ask]],
        options: Options,
        engines: int = 1,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Figures of the real services, and of the simulated ones."""
        with ExitStack() as stack:
            started = [
                stack.enter_context(running_server(sleeping_server(curve, options, str(each))))
                for each in range(engines)
            ]
            urls = [server.url for server in started]
            run = fleet_loop(urls, schedule) if engines > 1 else open_loop(urls[0], schedule)
        return _real_figures(run), _simulated(curve, schedule, engines)

    def _real(self, options: Options) -> tuple[dict[str, float], dict[str, float]]:
        with running_server(our_server(options)) as server:
            before = measured_curve(server)
            schedule = _mixed(before, self.real)
            run = open_loop(server.url, schedule)
            after = measured_curve(server)
        return _real_figures(run), _simulated(between(before, after), schedule)


def sleeping_server(curve: TickCurve, options: Options, name: str) -> ServerSpec:
    """A service whose ticks sleep this curve."""
    path = options.log(f"sleeping {name}").with_suffix(".json")
    path.write_text(json.dumps(asdict(curve)), encoding="utf-8")
    ours = our_server(options, name=f"sleeping {name}", module="bench.peers.sleeping")
    return ServerSpec(ours.module, (str(path),), ours.environment, log=ours.log)


def measured_curve(server: Server) -> TickCurve:
    """Of a service with nothing else to do, in company of its own HTTP and loop."""
    points, decodes = [], []
    for images in CURVE_IMAGES:
        body = {
            "class_label": 0,
            "cfg_scale": 2.0,
            "num_sampling_steps": CURVE_STEPS,
            "sampler": "ddim",
            "num_images": images,
            "seed": 1,
        }
        stages = [
            stages_of(httpx.post(f"{server.url}{PATH}", json=body, timeout=600.0).headers)
            for _ in range(3)
        ]
        points.append(
            (2 * images, statistics.median(each["denoise"] for each in stages) / CURVE_STEPS)
        )
        decodes.append(statistics.median(each["decode"] for each in stages) / images)
    return TickCurve("measured", 2 * CURVE_IMAGES[-1], tuple(points), min(decodes))


def between(before: TickCurve, after: TickCurve) -> TickCurve:
    """The mean of two curves at the same rows."""
    points = tuple(
        (rows, (first + second) / 2)
        for (rows, first), (_, second) in zip(before.points, after.points)
    )
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
