"""Workload: what is asked for and when, derived from a seed and the same for every arm."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

CFG_SCALE = 2.0
CLASSES = 10
"""Every model has at least this many."""

MIXED_STEPS = (10, 250)
MIXED_CFG_SCALES = (1.0, 8.0)
MIXED_SAMPLERS = ("ddim", "ddpm", "dpmpp_2m")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for one image, by the fields of its JSON body.

    Unless ``named``, steps and sampler are left to the server.
    """

    class_label: int
    cfg_scale: float
    num_sampling_steps: int
    seed: int
    sampler: str = "ddim"
    timeout_s: float = 300.0
    named: bool = True

    @property
    def body(self) -> dict[str, object]:
        left_out = {"named"} if self.named else {"named", "num_sampling_steps", "sampler"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def uniform(
    count: int,
    *,
    steps: int,
    sampler: str = "ddim",
    cfg_scale: float = CFG_SCALE,
    seed: int = 0,
    named: bool = True,
) -> list[Ask]:
    """Guided requests that differ only in class and seed."""
    draw = random.Random(seed)
    return [
        Ask(
            draw.randrange(CLASSES),
            cfg_scale,
            steps,
            draw.randrange(2**31),
            sampler,
            named=named,
        )
        for _ in range(count)
    ]


def steps_uniform(draw: random.Random) -> int:
    return draw.randint(*MIXED_STEPS)


def steps_log_uniform(draw: random.Random) -> int:
    low, high = MIXED_STEPS
    return round(math.exp(draw.uniform(math.log(low), math.log(high))))


STEPS: dict[str, Callable[[random.Random], int]] = {
    "uniform": steps_uniform,
    "log-uniform": steps_log_uniform,
}


def mixed(
    count: int,
    *,
    seed: int,
    timeout_s: float,
    steps: Callable[[random.Random], int] = steps_uniform,
) -> list[Ask]:
    """Requests with random step counts, guidance and samplers."""
    draw = random.Random(seed)
    return [
        Ask(
            class_label=draw.randrange(CLASSES),
            cfg_scale=round(draw.uniform(*MIXED_CFG_SCALES), 1),
            num_sampling_steps=steps(draw),
            seed=draw.randrange(2**31),
            sampler=draw.choice(MIXED_SAMPLERS),
            timeout_s=timeout_s,
        )
        for _ in range(count)
    ]


def poisson(asks: list[Ask], rate: float, seed: int) -> list[tuple[float, Ask]]:
    """Arrival times in seconds of a Poisson process with ``rate`` arrivals per second."""
    draw = random.Random(seed)
    at = 0.0
    schedule = []
    for ask in asks:
        at += draw.expovariate(rate)
        schedule.append((at, ask))
    return schedule
