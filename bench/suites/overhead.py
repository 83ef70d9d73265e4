"""Overhead: what HTTP, queue and metrics add to the work itself, and each stage's share."""

from __future__ import annotations

from dataclasses import dataclass

from bench.load.clients import LoadRun, closed_loop
from bench.load.servers import Server, running_server
from bench.load.workload import uniform
from bench.models.folders import BUNDLED, XL_256
from bench.options import Options
from bench.report.figures import Cell, Figure, Measured, Spread, Table, percentile
from bench.suites.arms import CFG_SCALE, CLASSES
from bench.suites.peers import our_server

WORK = ("denoise", "decode", "encode")
"""Stages of Server-Timing that are the work itself; all else is overhead."""


@dataclass(frozen=True, slots=True)
class Overhead:
    model: str
    steps: int
    requests: int
    rounds: int
    loaded_clients: int

    @classmethod
    def planned(cls, options: Options) -> Overhead:
        (model,) = options.models(options.by_device(BUNDLED, XL_256))
        clients = options.pick(options.by_device(32, 64), 4)
        return cls(model, options.pick(50, 4), options.pick(24, 6), options.pick(5, 2), clients)

    def run(self, options: Options) -> Measured:
        with running_server(our_server(self.model, options), options) as server:
            self._load(server, 4, 1)
            rounds = [self._load(server, self.requests, 1) for _ in range(self.rounds)]
            loaded = self._load(server, 2 * self.loaded_clients, self.loaded_clients)
        overheads = Spread(tuple(1e3 * percentile(overheads_s(run), 50) for run in rounds))
        alone = LoadRun(tuple(one for run in rounds for one in run.outcomes), 0.0)
        columns = {"one client": alone, f"{self.loaded_clients} clients": loaded}
        what = "wall time of a request less denoise, decode and encode, p50, unloaded"
        figure = Figure("p50_ms", what, "ms", overheads)
        return Measured((figure,), (self._stages(columns),), (NOTE,))

    def _load(self, server: Server, requests: int, clients: int) -> LoadRun:
        orders = uniform(requests, classes=CLASSES, steps=self.steps, cfg_scale=CFG_SCALE)
        return closed_loop(server.url, orders, clients)

    def _stages(self, columns: dict[str, LoadRun]) -> Table:
        header = ["stage"]
        rows: dict[str, list[Cell]] = {
            name: [name] for name in ("queue", *WORK, "HTTP and the rest")
        }
        for title, run in columns.items():
            header += [f"{title}, mean ms", "share"]
            means = mean_stages(run)
            for name, row in rows.items():
                row += [1e3 * means[name], means[name] / sum(means.values())]
        title = f"{self.model}: where a request's time goes, DDIM {self.steps}, guided, PNG"
        return Table(title, tuple(header), tuple(tuple(row) for row in rows.values()))


def overheads_s(run: LoadRun) -> list[float]:
    """Each request's wall time, as the client saw it, less its work."""
    return [one.seconds - sum(one.stages[stage] for stage in WORK) for one in run.outcomes]


def mean_stages(run: LoadRun) -> dict[str, float]:
    """Seconds of each stage, and of all that no stage tells of."""
    count = len(run.outcomes)
    named = {
        name: sum(one.stages[name] for one in run.outcomes) / count for name in ("queue", *WORK)
    }
    whole = sum(one.seconds for one in run.outcomes) / count
    return named | {"HTTP and the rest": whole - sum(named.values())}


NOTE = (
    "The stages are those of the Server-Timing header; HTTP and the rest is the client's wall time"
    " less all of them, the client's own share included."
)
