"""Faults: whatever breaks, the promised answer, metric and log line come, and the promised state follows."""

from __future__ import annotations

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.drills.faults import rows as each
from tests.drills.faults.drilled import change_the_weights, check_promise, drilled
from tests.drills.faults.promises import SURVIVED
from tests.drills.figures import write_figures
from tests.support.requests import gated_service, generate
from tests.support.services import PATIENCE_S, wait_until

DAY_S = 86_400.0


@pytest.mark.slow
def test_a_service_survives_what_it_can(pipeline_folder: Path, tmp_path: Path) -> None:
    with drilled(pipeline_folder, tmp_path) as drill:
        for promise in SURVIVED:
            check_promise(drill, promise)
            drill.order("")
            drill.check_it_is_well()
        change_the_weights(drill.folder)
        drill.check_it_is_well()


def test_a_jump_of_the_wall_clock_moves_no_deadline(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with gated_service(pipeline_folder) as (running, runner), ThreadPoolExecutor() as pool:
        patient = pool.submit(generate, running, {"class_label": 1, "timeout_s": 30})
        wait_until(lambda: running.metric("dit_queue_wait_seconds_count") == 1)
        for jump_s in (DAY_S, -DAY_S):
            monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
            runner.let(1)
            hasty = {"class_label": 1, "num_sampling_steps": 100, "timeout_s": 0.2}
            late = pool.submit(generate, running, hasty)
            time.sleep(0.3)
            runner.let(2)
            assert late.result().status_code == 504
            assert running.client.get("/readyz").status_code == 200
        runner.open()
        assert patient.result().status_code == 200
        total = re.search(r"total;dur=([\d.]+)", patient.result().headers["Server-Timing"])
        assert total is not None
        assert float(total[1]) < PATIENCE_S * 1000


@pytest.mark.drill
@pytest.mark.skipif(each.LIBFAKETIME is None, reason="needs libfaketime")
def test_every_fault_comes_to_what_is_promised(pipeline_folder: Path, tmp_path: Path) -> None:
    with drilled(pipeline_folder, tmp_path) as drill:
        rows = each.rows_of_survived_faults(drill)
        rows["the whole process is stopped"] = each.row_of_a_stop(drill)
        rows["weights are overwritten, cut short and deleted"] = each.row_of_changed_weights(drill)
        assert drill.service.end()[0] == 0
    shutil.rmtree(tmp_path / "model")
    rows |= each.rows_of_fatal_faults(pipeline_folder, tmp_path)
    rows |= each.rows_of_clock_jumps(pipeline_folder, tmp_path)
    rows |= each.rows_of_broken_weights(pipeline_folder, tmp_path)
    rows["the log's disk is full"] = each.row_of_a_full_log(pipeline_folder, tmp_path)
    rows["the cache's disk is full at the first start"] = each.row_of_a_full_cache(
        pipeline_folder, tmp_path
    )
    write_figures("faults", rows)
