"""Workload: what is asked for and when, drawn from a seed, the same for every arm."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from bench.load.clients import Order

MIXED_STEPS = (10, 250)
MIXED_CFG_SCALES = (1.0, 8.0)
MIXED_SAMPLERS = ("ddim", "ddpm", "dpmpp_2m")


def uniform(
    count: int, *, classes: int, steps: int, cfg_scale: float, seed: int = 0
) -> list[Order]:
    """Orders that differ in class and seed alone."""
    draw = random.Random(seed)
    return [
        Order(draw.randrange(classes), cfg_scale, steps, draw.randrange(2**31))
        for _ in range(count)
    ]


def steps_uniform(draw: random.Random) -> int:
    return draw.randint(*MIXED_STEPS)


def steps_log_uniform(draw: random.Random) -> int:
    low, high = MIXED_STEPS
    return round(math.exp(draw.uniform(math.log(low), math.log(high))))


def mixed(
    count: int,
    *,
    classes: int,
    seed: int,
    timeout_s: float,
    steps: Callable[[random.Random], int] = steps_uniform,
) -> list[Order]:
    """Orders of all step counts, guidances and samplers, in no order."""
    draw = random.Random(seed)
    return [
        Order(
            class_label=draw.randrange(classes),
            cfg_scale=round(draw.uniform(*MIXED_CFG_SCALES), 1),
            steps=steps(draw),
            seed=draw.randrange(2**31),
            sampler=draw.choice(MIXED_SAMPLERS),
            timeout_s=timeout_s,
        )
        for _ in range(count)
    ]


def poisson(orders: list[Order], rate: float, seed: int) -> list[tuple[float, Order]]:
    """Arrivals at ``rate`` a second on average, each independent of all others."""
    draw = random.Random(seed)
    at = 0.0
    schedule = []
    for order in orders:
        at += draw.expovariate(rate)
        schedule.append((at, order))
    return schedule
