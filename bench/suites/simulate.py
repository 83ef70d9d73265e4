"""Simulate: what scheduling wins, over thousands of requests in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial

from bench.load.workload import STEPS, steps_log_uniform
from bench.options import Options
from bench.peers.static import static_batcher
from bench.report import machine
from bench.report.figures import Cell, Measured, Spread, Table
from bench.simulate.curve import CURVES, TickCurve
from bench.simulate.fleet import (
    Route,
    fewest_requests,
    fewest_requests_of_two,
    least_contention,
    least_work,
    least_work_of_two,
    simulate,
)
from bench.simulate.outcome import Latencies, Outcome
from bench.simulate.request_batches import request_batches
from bench.simulate.traffic import Request, traffic
from service.scheduling.fair import fair_scheduler
from service.scheduling.scheduler import MakeScheduler

LOADS = (0.2, 0.5, 0.8, 0.95)
OVERLOAD = 3.0
QUEUE_S = 10.0
"""The admission's bound in the table of refused requests, in seconds of full ticks."""

PATIENCE_S = 120.0
WAIT_S = 0.05
"""For company, of the server that batches requests."""

ROUTES: dict[str, Route] = {
    "fewest requests": fewest_requests,
    "fewest requests of two": fewest_requests_of_two,
    "least work of two": least_work_of_two,
    "least work": least_work,
    "least contention": least_contention,
}
IMAGES = (1, 1, 1, 1, 2, 4, 8, 16)
ROUTED: dict[str, tuple[Callable[[random.Random], int], tuple[int, ...]]] = {
    **{name: (steps, ()) for name, steps in STEPS.items()},
    "log-uniform, 1 to 16 images": (steps_log_uniform, IMAGES),
}
"""By their name: steps, and images if a request may have several."""

FIGURES = tuple(field.name for field in fields(Latencies))[:4]
NOTE = (
    "The service's own admission, deadlines and scheduler run in virtual time on a device that is a curve of"
    " seconds over rows: two CPU cores with the bundled model (3.8 ms + 2.85 ms a row, measured) or one H100"
    " with DiT-XL/2 at 256 pixels (1.8 + 0.53 ms a row, estimated). Requests arrive by a Poisson process, of"
    " 10 to 250 steps each. The static batcher runs a batch to its end but frees a finished image's rows; the"
    " server of request batches waits 50 ms for company, and answers all of a batch with its longest. Ratios"
    " are theirs over ours, the median over the seeds. Latency over steps is its p95. Of several devices, a fleet's"
    " front chooses the one of least contention (service/fleet/contention.py)."
)


@dataclass(frozen=True, slots=True)
class Simulate:
    """What joining at every step wins over batches, in thousands of simulated requests."""

    requests: int
    seeds: int
    loads: tuple[float, ...]
    replicas: tuple[int, ...]

    @classmethod
    def planned(cls, options: Options) -> Simulate:
        return cls(
            requests=options.pick(4000, 200),
            seeds=options.pick(3, 2),
            loads=options.pick(LOADS, (0.8,)),
            replicas=options.pick((2, 8, 64), (2,)),
        )

    def run(self, options: Options) -> Measured:
        figures: dict[str, Spread] = {}
        rows: list[tuple[Cell, ...]] = []
        for key, curve in CURVES.items():
            for steps in STEPS:
                for load in self.loads:
                    cell = self._cell(curve, steps, load)
                    static, requests = cell["static"], cell["requests"]
                    place = f"{key}.{steps}.{load:g}"
                    figures |= {f"{each}.{place}": ratio for each, ratio in static.items()}
                    rows.append(
                        (
                            f"{curve.name}, {steps}",
                            load,
                            cell["ours"]["p50"],
                            cell["ours"]["p95"],
                            *static.values(),
                            requests["p50"],
                            requests["p95"],
                        )
                    )
        header = (
            *("device, steps", "load", "ours p50, s", "ours p95, s"),
            *(f"static: {name}" for name in ("p50", "p95", "p99", "latency over steps")),
            *("request batches: p50", "p95"),
        )
        tables = (
            Table("Latency of batches over ours", header, tuple(rows)),
            self._routing(),
            self._refused(figures),
        )
        return Measured(figures, tables, (NOTE,))

    def _cell(self, curve: TickCurve, steps: str, load: float) -> dict[str, dict[str, Spread]]:
        """Ours in seconds, and the alternatives' over ours, by figure."""
        rounds = [
            traffic(curve, STEPS[steps], load, self.requests, seed=seed)
            for seed in range(self.seeds)
        ]
        ours = _spreads(rounds, partial(_simulated, curve, fair_scheduler))
        static = _spreads(rounds, partial(_simulated, curve, static_batcher))
        requests = _spreads(rounds, partial(_batched, curve))
        return {
            "ours": ours,
            "static": {name: static[name].over(ours[name]) for name in FIGURES},
            "requests": {name: requests[name].over(ours[name]) for name in FIGURES},
        }

    def _routing(self) -> Table:
        """Several devices behind a router, at a load of 0.8."""
        rows: list[tuple[Cell, ...]] = []
        for curve in CURVES.values():
            for asked in ROUTED:
                for replicas in self.replicas:
                    for name, found in self._routed(curve, asked, replicas).items():
                        seconds = (found["p50"], found["p95"], found["per_step"])
                        rows.append((f"{curve.name}, {asked}", str(replicas), name, *seconds))
        header = (
            "device, steps",
            "replicas",
            "routed to",
            "p50, s",
            "p95, s",
            "latency over steps, s",
        )
        return Table(
            "Several devices at a load of 0.8, by how requests are routed", header, tuple(rows)
        )

    def _routed(self, curve: TickCurve, kind: str, replicas: int) -> dict[str, dict[str, Spread]]:
        steps, images = ROUTED[kind]
        count = max(self.requests, self.requests // 16 * replicas)
        asked = traffic(curve, steps, 0.8 * replicas, count, images=images)
        routed = partial(_routed, curve, asked, replicas)
        with ProcessPoolExecutor(machine.cores()) as processes:
            found = dict(zip(ROUTES, processes.map(routed, ROUTES.values())))
        return {
            name: {figure: Spread((getattr(each, figure),)) for figure in FIGURES}
            for name, each in found.items()
        }

    def _refused(self, figures: dict[str, Spread]) -> Table:
        """At three times the capacity: who waits as told after a 429, and is let in at which try."""
        rows: list[tuple[Cell, ...]] = []
        for key, curve in CURVES.items():
            for steps in STEPS:
                bound = round(QUEUE_S * curve.row_steps_per_s)
                asked = traffic(curve, STEPS[steps], OVERLOAD, self.requests, timeout_s=PATIENCE_S)
                outcomes = simulate(curve, asked, fair_scheduler, max_queue_row_steps=bound)
                answered = [each for each in outcomes if each.ended is not None]
                early = sum(each.tries <= 2 for each in answered) / len(answered)
                figures[f"second_try.{key}.{steps}"] = Spread((early,))
                rows.append(
                    (
                        f"{curve.name}, {steps}",
                        len(answered) / len(outcomes),
                        goodput(curve, outcomes),
                        early,
                        sum(each.tries for each in answered) / len(answered),
                        Latencies.of(answered).p95,
                    )
                )
        header = (
            "device, steps",
            "answered",
            "goodput: their row-steps over what full ticks could do",
            "of these at the first or second try",
            "tries of each, mean",
            "p95, s",
        )
        return Table(
            f"Refused requests, at {OVERLOAD:g} times the capacity: a queue of {QUEUE_S:g} s,"
            f" clients that come back as told and give up after {PATIENCE_S:g} s",
            header,
            tuple(rows),
        )


def goodput(curve: TickCurve, outcomes: Sequence[Outcome]) -> float:
    """Row-steps of the images that were delivered in time, over what full ticks could have done."""
    good = [each for each in outcomes if each.ended is not None]
    ended = max(each.ended or 0.0 for each in good)
    return sum(each.request.row_steps for each in good) / (ended * curve.row_steps_per_s)


def _simulated(
    curve: TickCurve,
    make_scheduler: MakeScheduler,
    requests: list[Request],
) -> Latencies:
    return Latencies.of(simulate(curve, requests, make_scheduler))


def _routed(curve: TickCurve, requests: list[Request], replicas: int, route: Route) -> Latencies:
    return Latencies.of(simulate(curve, requests, fair_scheduler, engines=replicas, route=route))


def _batched(curve: TickCurve, requests: list[Request]) -> Latencies:
    return Latencies.of(request_batches(curve, requests, WAIT_S))


def _spreads(
    rounds: Sequence[list[Request]], run: Callable[[list[Request]], Latencies]
) -> dict[str, Spread]:
    """By figure. The rounds run next to each other, each in a process of its own."""
    with ProcessPoolExecutor(machine.cores()) as processes:
        found = list(processes.map(run, rounds))
    return {name: Spread(tuple(getattr(one, name) for one in found)) for name in FIGURES}
