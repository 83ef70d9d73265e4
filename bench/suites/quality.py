"""Quality: the time to pictures of equal quality, not of equal steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from bench.arms.protocol import Draw
from bench.arms.specs import OURS, PEER_BF16, PEER_FP32, arms_of, draw_of
from bench.arms.workers import Worker, running_workers
from bench.load.clients import closed_loop
from bench.load.servers import Server, ServerSpec, running_servers
from bench.load.workload import uniform
from bench.options import Options
from bench.peers.specs import lit_installed, lit_server, our_server
from bench.report.figures import Measured, Spread, Table
from bench.suites.rounds import interleaved

CFG_SCALE = 1.5
"""The bundled model's recommendation, at which the Frechet distances were measured."""

NOTE = (
    "Guidance 1.5. Ours samples as for a request that names neither steps nor sampler; the alternatives as"
    " DiTPipeline does by default (DDIM, 50 steps) and with the best that diffusers offers it"
    " (DPM-Solver++(2M), 10 steps). Frechet distances on equal noises are in docs/bundled-model.md: they"
    " differ by less than they do from one draw of noises to another. Alone is from noise to pixels without"
    " HTTP; LitServe batches as in the suite serving, and answers with PNG over HTTP as ours does."
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an arm samples; without a sampler, as our service does by default."""

    sampler: Literal["ddim", "dpmpp_2m"] | None
    steps: int

    def __str__(self) -> str:
        return f"{self.sampler} {self.steps}" if self.sampler else "default"


DEFAULT = Recipe(None, 1)


@dataclass(frozen=True, slots=True)
class Quality:
    """Time to pictures of equal quality: our default against the alternatives' default and best."""

    model: str
    steps: int
    few_steps: int
    clients: int
    images: int
    lit_batch: int
    lit_wait: float
    lit_images: int
    rounds: int
    lone_rounds: int

    @classmethod
    def planned(cls, options: Options) -> Quality:
        clients = options.pick(options.by_device(32, 96), 4)
        return cls(
            model=options.served_model,
            steps=options.pick(50, 4),
            few_steps=options.pick(10, 2),
            clients=clients,
            images=options.pick(4, 2) * clients,
            lit_batch=options.pick(options.by_device(16, 32), 4),
            lit_wait=0.05,
            lit_images=clients,
            rounds=options.pick(3, 2),
            lone_rounds=options.pick(7, 2),
        )

    def run(self, options: Options) -> Measured:
        seconds = self._alone(options)
        figures = {f"alone over {name}": spread for name, spread in _over(seconds).items()}
        tables, notes = [_table("one image, without HTTP", "one image, s", seconds)], [NOTE]
        if lit_installed(options):
            rates = self._serving(options)
            figures |= {f"serving over {name}": each for name, each in _under(rates).items()}
            figures["images per second"] = rates[OURS, DEFAULT]
            title = f"{self.clients} clients, PNG over HTTP"
            tables.append(_table(title, "images/s", rates, more_is_better=True))
        else:
            notes.append("LitServe is not installed here, so its arms are missing.")
        return Measured(figures, tuple(tables), tuple(notes))

    def _peer_recipes(self) -> tuple[Recipe, Recipe]:
        return Recipe("ddim", self.steps), Recipe("dpmpp_2m", self.few_steps)

    def _alone(self, options: Options) -> dict[tuple[str, Recipe], Spread]:
        """Seconds for one image."""
        specs = arms_of(self.model, options)
        kept = {name: specs[name] for name in (OURS, PEER_FP32, PEER_BF16)}
        with running_workers(kept, options) as workers:
            arms = {(OURS, DEFAULT): _drawing(workers[OURS], DEFAULT)}
            for name in (PEER_FP32, PEER_BF16):
                arms |= {
                    (name, each): _drawing(workers[name], each) for each in self._peer_recipes()
                }
            return _named(arms, self.lone_rounds, warm_ups=1)

    def _serving(self, options: Options) -> dict[tuple[str, Recipe], Spread]:
        """Images/s with many clients."""
        specs: dict[str, ServerSpec] = {OURS: our_server(options)}
        for dtype in options.by_device(("float32", "bfloat16"), ("bfloat16",)):
            specs[f"LitServe {dtype}"] = lit_server(options, dtype, self.lit_batch, self.lit_wait)
        with running_servers(specs) as servers:
            ours = partial(self._rate, servers.pop(OURS), DEFAULT, self.images)
            arms: dict[tuple[str, Recipe], Callable[[], float]] = {(OURS, DEFAULT): ours}
            for name, server in servers.items():
                for each in self._peer_recipes():
                    arms[name, each] = partial(self._rate, server, each, self.lit_images)
            return _named(arms, self.rounds, warm_ups=0)

    def _rate(self, server: Server, recipe: Recipe, images: int) -> float:
        """Images/s, from the first request to the last answer."""
        sampler, named = recipe.sampler or "ddim", recipe.sampler is not None
        asks = uniform(
            images, steps=recipe.steps, sampler=sampler, cfg_scale=CFG_SCALE, named=named
        )
        with server.awake():
            return images / closed_loop(server.url, asks, self.clients).seconds


def _drawing(worker: Worker, recipe: Recipe) -> Callable[[], float]:
    """Draws one image, each time with another class and seed, so that no result is reused."""
    numbers = itertools.count()

    def draw() -> float:
        asked: Draw = draw_of(1, recipe.steps, first=next(numbers))
        return worker.draw(replace(asked, cfg_scale=CFG_SCALE, sampler=recipe.sampler))

    return draw


def _named(
    arms: Mapping[tuple[str, Recipe], Callable[[], float]], rounds: int, *, warm_ups: int
) -> dict[tuple[str, Recipe], Spread]:
    by_name = {f"{name}, {recipe}": (name, recipe) for name, recipe in arms}
    measured = interleaved(
        {text: arms[key] for text, key in by_name.items()}, rounds, warm_ups=warm_ups
    )
    return {by_name[text]: spread for text, spread in measured.items()}


def _over(seconds: Mapping[tuple[str, Recipe], Spread]) -> dict[str, Spread]:
    """Their seconds over ours."""
    ours = seconds[OURS, DEFAULT]
    return {
        f"{name} {recipe}": s.over(ours) for (name, recipe), s in seconds.items() if name != OURS
    }


def _under(rates: Mapping[tuple[str, Recipe], Spread]) -> dict[str, Spread]:
    """Our rate over theirs."""
    ours = rates[OURS, DEFAULT]
    return {f"{name} {recipe}": ours.over(r) for (name, recipe), r in rates.items() if name != OURS}


def _table(
    title: str,
    unit: str,
    measured: Mapping[tuple[str, Recipe], Spread],
    *,
    more_is_better: bool = False,
) -> Table:
    ours = measured[OURS, DEFAULT]
    rows = tuple(
        (name, str(recipe), spread, ours.over(spread) if more_is_better else spread.over(ours))
        for (name, recipe), spread in measured.items()
    )
    return Table(title, ("arm", "sampler and steps", unit, "ours is faster by"), rows)
