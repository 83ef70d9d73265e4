"""What a second replica brings, and what the choice of a replica does."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.drills.figures import Figure
from tests.fleet.serving.figures import write_fleet_figures
from tests.fleet.serving.fleets import Fleet, Load, deployed
from tests.support.sleeping import MAX_ROWS, TICK_S, load_sleeping

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

CLIENTS = 16
STEPS = 10
MEASURED_S = 12.0
LEAST_FACTOR = 1.9
REQUESTS = 100
LOAD = 0.8
SEED = 7


def images_per_second(fleet: Fleet) -> float:
    load = Load(fleet)
    with load.running(CLIENTS, lambda _: {"class_label": 1, "num_sampling_steps": STEPS}):
        time.sleep(2.0)
        before = len(load.answers)
        began = time.monotonic()
        time.sleep(MEASURED_S)
        rate = (len(load.answers) - before) / (time.monotonic() - began)
    assert load.lost == []
    return rate


def test_two_replicas_draw_twice_as_much(ray_port: int, pipeline_folder: Path) -> None:
    rates = {}
    for replicas in (1, 2):
        model = {"name": "small", "model": str(pipeline_folder), "num_replicas": replicas}
        with deployed(ray_port, [model], load_sleeping) as fleet:
            rates[replicas] = images_per_second(fleet)
    factor = rates[2] / rates[1]
    write_fleet_figures(
        "throughput",
        {
            f"one replica, ticks of {TICK_S * 1e3:.0f} ms": f"{rates[1]:.1f} images/s",
            "two replicas": f"{rates[2]:.1f} images/s",
            "two over one": Figure(f"{factor:.2f}", f"at least {LEAST_FACTOR}"),
        },
    )
    assert factor >= LEAST_FACTOR


def arrivals(replicas: int) -> list[tuple[float, int]]:
    """Times of Poisson arrivals and steps, log-uniform from 4 to 50, at ``LOAD`` of the replicas."""
    draw = random.Random(SEED)
    steps = [round(4 * (50 / 4) ** draw.random()) for _ in range(REQUESTS)]
    work = 2 * sum(steps) / len(steps)  # rows times steps
    rate = LOAD * replicas * MAX_ROWS / TICK_S / work
    now, times = 0.0, []
    for _ in steps:
        now += draw.expovariate(rate)
        times.append(now)
    return list(zip(times, steps))


def latencies(fleet: Fleet, replicas: int) -> list[float]:
    """Of the same requests at the same times, sorted."""
    began = time.monotonic()
    lock, seconds = threading.Lock(), []

    def ask(at: float, steps: int) -> None:
        time.sleep(max(0.0, began + at - time.monotonic()))
        answer = fleet.ask(
            "/generate", {"class_label": 1, "num_sampling_steps": steps, "cfg_scale": 2.0}
        )
        assert answer.status == 200, answer.content
        with lock:
            seconds.append(answer.seconds)

    plan = arrivals(replicas)
    with ThreadPoolExecutor(len(plan)) as pool:
        for asked in [pool.submit(ask, at, steps) for at, steps in plan]:
            asked.result()
    return sorted(seconds)


def test_the_router_by_row_steps_beside_rays_own(ray_port: int, pipeline_folder: Path) -> None:
    figures = {}
    for replicas in (2, 4):
        for router in ("row-steps", "ray"):
            model = {"name": "small", "model": str(pipeline_folder), "num_replicas": replicas}
            with deployed(ray_port, [model], load_sleeping, router=router) as fleet:
                for _ in range(3):  # connections and estimates are warm
                    fleet.ask("/generate", {"class_label": 1, "num_sampling_steps": 4})
                seconds = latencies(fleet, replicas)
            p50, p95 = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.95)]
            figures[f"{replicas} replicas, {router}"] = f"p50 {p50:.2f} s, p95 {p95:.2f} s"
    write_fleet_figures("router", figures)
