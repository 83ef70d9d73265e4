"""Engine: a start with too little memory for the configured rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.runner.runner import ModelRunner
from service.engine.engine import Engine, State
from service.launch import exit_code
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from tests.support.faulty import FaultyNetwork
from tests.support.networks import network_of
from tests.support.requests import PICTURE, generate
from tests.support.services import PATIENCE_S, load_small_checkpoint, running_service


def runner_with_memory_for(folder: Path, most_rows: int) -> ModelRunner:
    checkpoint = load_small_checkpoint(folder)
    network = FaultyNetwork(network_of(checkpoint), most_rows=most_rows)
    return ModelRunner(checkpoint, network, max_rows=32)


def test_a_service_runs_with_the_rows_that_fit(pipeline_folder: Path) -> None:
    with running_service(lambda: runner_with_memory_for(pipeline_folder, 9)) as running:
        assert running.metric("dit_row_limit") == 8
        assert generate(running, PICTURE | {"num_images": 9}).status_code == 200
        assert running.metric("dit_out_of_memory_total") == 0


def test_a_device_without_memory_for_a_guided_image_is_reported_in_one_line(
    pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(
        lambda: runner_with_memory_for(pipeline_folder, 1), AdmissionQueue(1000), Metrics()
    )
    engine.start()
    engine.join(PATIENCE_S)
    assert engine.state is State.FAILED
    assert exit_code(engine) == 1
    assert "cannot start: not enough memory on cpu for 2 rows" in capsys.readouterr().err
