"""Replicas that die or fail under load: no client notices."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fleet.serving.figures import write_fleet_figures
from tests.fleet.serving.fleets import Load, deployed, replicas_of
from tests.support.services import wait_until
from tests.support.sleeping import load_doomed, load_sleeping

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

CLIENTS = 12
STEPS = 40
REPLACED_S = 90.0


def test_a_replica_that_is_killed_loses_no_request(ray_port: int, pipeline_folder: Path) -> None:
    models = [{"name": "small", "model": str(pipeline_folder), "num_replicas": 2}]
    with deployed(ray_port, models, load_sleeping) as fleet:
        before = replicas_of("small")
        load = Load(fleet)
        with load.running(CLIENTS, lambda number: {"class_label": 1, "num_sampling_steps": STEPS}):
            time.sleep(4.0)
            victim = next(iter(before))
            os.kill(before[victim], signal.SIGKILL)
            time.sleep(8.0)
        assert load.lost == []
        wait_until(lambda: len(replicas_of("small").keys() - {victim}) == 2, REPLACED_S)
        resent = fleet.ask("/metrics").content.decode()
        (line,) = [
            each
            for each in resent.splitlines()
            if each.startswith("dit_fleet_resent_total") and 'reason="lost"' in each
        ]
        count = int(float(line.rsplit(" ", 1)[1]))
        assert count > 0, "the replica had nothing in flight when it was killed"
        longest = max(each.seconds for each in load.answers)
        write_fleet_figures(
            "kill",
            {
                "requests, of 12 clients": f"{len(load.answers)}",
                "lost when a replica of two was killed": "0",
                "sent to the other replica, unnoticed": f"{count}",
                "longest answer": f"{longest:.1f} s",
            },
        )


def test_an_engine_that_fails_is_replaced(ray_port: int, pipeline_folder: Path) -> None:
    models = [{"name": "small", "model": str(pipeline_folder), "num_replicas": 2}]
    with deployed(ray_port, models, load_doomed) as fleet:
        before = replicas_of("small")
        load = Load(fleet)
        with load.running(4, lambda number: {"class_label": 1, "num_sampling_steps": STEPS}):
            time.sleep(2.0)
            # The second try fails the other replica, too: this request is beyond help.
            assert fleet.ask("/generate", {"class_label": 4, "num_sampling_steps": 2}).status == 503
            wait_until(lambda: not before.keys() & replicas_of("small").keys(), REPLACED_S)
            wait_until(lambda: len(replicas_of("small")) == 2, REPLACED_S)
            time.sleep(2.0)
        assert fleet.ask("/generate", {"class_label": 1}).status == 200
