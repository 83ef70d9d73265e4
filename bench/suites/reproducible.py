"""Reproducible: what DIT_REPRODUCIBLE=1 costs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.arms.rounds import interleaved, ratio
from bench.load.clients import closed_loop
from bench.load.servers import Server, running_server
from bench.load.workload import uniform
from bench.models.folders import BUNDLED, XL_256
from bench.options import Options
from bench.report.figures import Figure, Measured, Table
from bench.suites.arms import CFG_SCALE, CLASSES
from bench.suites.peers import our_server

ON, OFF = "reproducible", "as it is"


@dataclass(frozen=True, slots=True)
class Reproducible:
    model: str
    steps: int
    clients: int
    images: int
    alone: int
    rounds: int

    @classmethod
    def planned(cls, options: Options) -> Reproducible:
        (model,) = options.models(options.by_device(BUNDLED, XL_256))
        clients = options.pick(options.by_device(32, 64), 4)
        return cls(
            model, options.pick(50, 4), clients, 2 * clients, options.pick(4, 1), options.pick(5, 2)
        )

    def run(self, options: Options) -> Measured:
        specs = {
            OFF: our_server(self.model, options, name=OFF),
            ON: our_server(self.model, options, name=ON, reproducible="true"),
        }
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(running_server(spec, options))
                for name, spec in specs.items()
            }
            loaded = interleaved(
                {
                    name: partial(self._seconds, one, self.images, self.clients)
                    for name, one in servers.items()
                },
                self.rounds,
            )
            alone = interleaved(
                {name: partial(self._seconds, one, self.alone, 1) for name, one in servers.items()},
                self.rounds,
            )
        prices = {"loaded": ratio(loaded[ON], loaded[OFF]), "alone": ratio(alone[ON], alone[OFF])}
        rows = (
            (
                f"{self.images} images for {self.clients} clients, s",
                loaded[OFF],
                loaded[ON],
                prices["loaded"],
            ),
            (f"{self.alone} images for one client, s", alone[OFF], alone[ON], prices["alone"]),
        )
        header = ("", OFF, ON, f"{ON} over {OFF}")
        figures = tuple(
            Figure(name, f"time with DIT_REPRODUCIBLE=1 over without, {name}", "times", spread)
            for name, spread in prices.items()
        )
        return Measured(figures, (Table(f"{self.model}: DDIM {self.steps}, guided", header, rows),))

    def _seconds(self, server: Server, images: int, clients: int) -> float:
        orders = uniform(images, classes=CLASSES, steps=self.steps, cfg_scale=CFG_SCALE)
        return closed_loop(server.url, orders, clients).seconds
