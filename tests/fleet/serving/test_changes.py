"""Updates and changes of size under load: no request is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fleet.serving.figures import write_fleet_figures
from tests.fleet.serving.fleets import Load, deploy, deployed, replicas_of
from tests.support.services import wait_until
from tests.support.sleeping import load_sleeping

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

CLIENTS = 8
CHANGED_S = 120.0


def body_of(number: int) -> dict[str, object]:
    """Short and long requests."""
    return {"class_label": number % 4, "num_sampling_steps": (4, 8, 20, 40)[number % 4]}


def test_a_rolling_update_loses_no_request(ray_port: int, pipeline_folder: Path) -> None:
    model = {"name": "small", "model": str(pipeline_folder), "num_replicas": 2}
    with deployed(ray_port, [model], load_sleeping) as fleet:
        before = replicas_of("small")
        load = Load(fleet)
        with load.running(CLIENTS, body_of):
            time.sleep(2.0)
            began = time.monotonic()
            changed = model | {"settings": {"default_cfg_scale": 2.0}}
            deploy([changed], load_sleeping)
            wait_until(lambda: not before.keys() & replicas_of("small").keys(), CHANGED_S)
            took = time.monotonic() - began
            time.sleep(2.0)
        assert load.lost == []
        (described,) = [fleet.ask("/models").content]
        assert b'"cfg_scale":2.0' in described
        write_fleet_figures(
            "update",
            {
                "requests, of 8 clients": f"{len(load.answers)}",
                "lost while both replicas were replaced": "0",
                "the update took": f"{took:.0f} s",
            },
        )


def test_growing_and_shrinking_lose_no_request(ray_port: int, pipeline_folder: Path) -> None:
    model = {"name": "small", "model": str(pipeline_folder), "num_replicas": 1}
    with deployed(ray_port, [model], load_sleeping) as fleet:
        load = Load(fleet)
        with load.running(CLIENTS, body_of):
            for replicas in (2, 1):
                time.sleep(2.0)
                deploy([model | {"num_replicas": replicas}], load_sleeping)
                wait_until(lambda: len(replicas_of("small")) == replicas, CHANGED_S)  # noqa: B023
            time.sleep(2.0)
        assert load.lost == []
        write_fleet_figures(
            "scale",
            {
                "requests, of 8 clients": f"{len(load.answers)}",
                "lost while one replica became two, then one": "0",
            },
        )


def test_replicas_follow_the_work(ray_port: int, pipeline_folder: Path) -> None:
    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_row_steps": 200,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 2.0,
    }
    model = {"name": "small", "model": str(pipeline_folder), "autoscaling": scaling}
    with deployed(ray_port, [model], load_sleeping) as fleet:
        load = Load(fleet)
        with load.running(CLIENTS, lambda number: {"class_label": 1, "num_sampling_steps": 40}):
            wait_until(lambda: len(replicas_of("small")) == 2, CHANGED_S)
        wait_until(lambda: len(replicas_of("small")) == 1, CHANGED_S)
        assert load.lost == []


def test_a_stop_finishes_what_is_under_way(ray_port: int, pipeline_folder: Path) -> None:
    from service.fleet.deployments.stop import drain

    model = {"name": "small", "model": str(pipeline_folder)}
    with deployed(ray_port, [model], load_sleeping) as fleet:
        load = Load(fleet)
        with load.running(4, lambda number: {"class_label": 1, "num_sampling_steps": 20}):
            time.sleep(2.0)
            assert drain("dit", 60.0) == 0
        statuses = [each.status for each in load.answers]
        assert load.failures == []
        assert set(statuses) == {200, 503}
        refused = next(each for each in load.answers if each.status == 503)
        assert refused.headers["retry-after"] == "5"
        assert fleet.ask("/readyz").status == 503
        assert fleet.ask("/livez").status == 200
