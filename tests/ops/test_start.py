"""The start on a device that cannot be used: one line, and exit code 1 or the CPU.

torch.cuda is a stand-in here: that an old driver makes torch say these words, only a host with one
can show.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from model.device import DeviceLost, OutOfMemory
from model.runner.runner import ModelRunner
from service import load_model
from service.engine.engine import Engine
from service.launch import exit_code, log_ready
from service.load_model import load_runner
from service.metrics import Metrics
from service.scheduling.admission import AdmissionQueue
from service.settings import read_settings
from tests.model.test_device import OLD_DRIVER, FakeCuda
from tests.support.processes import PROCESS_S
from tests.support.services import LIMITS, PATIENCE_S, Running, load_small_runner, wait_until

ROOT = Path(__file__).parents[2]

START_WITH_AN_OLD_DRIVER = f"""
import sys, torch

def init():
    raise RuntimeError({str(OLD_DRIVER)!r})

torch.cuda.init = init

from service.__main__ import main
sys.exit(main(["--port", "0", "--device", sys.argv[1]]))
"""


def start(device: str) -> tuple[int, list[str]]:
    """Exit code and "cannot start" lines of a service in a process with an old driver."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIT_")}
    ended = subprocess.run(
        [sys.executable, "-c", START_WITH_AN_OLD_DRIVER, device],
        env=clean | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, [
        line for line in ended.stderr.splitlines() if line.startswith("cannot start: ")
    ]


def engine_of(load: Callable[[], ModelRunner]) -> Engine:
    """An engine whose thread has begun to load."""
    engine = Engine(load, AdmissionQueue(1000), Metrics())
    engine.start()
    return engine


def failed_start(load: Callable[[], ModelRunner], capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed at exit code 1 after a start that fails."""
    engine = engine_of(load)
    engine.join(PATIENCE_S)
    capsys.readouterr()
    assert exit_code(engine) == 1
    return capsys.readouterr().err


def test_an_old_driver_ends_the_start_with_one_line() -> None:
    code, lines = start("cuda")
    assert code == 1
    (line,) = lines
    assert "cannot use cuda with torch" in line
    assert "(found version 12040); update the driver, or install a torch build" in line
    assert "TORCH_INDEX" in line


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_device_that_cannot_be_used_ends_the_start_with_one_line(
    pipeline_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    device: str,
) -> None:
    cuda = FakeCuda(monkeypatch)
    cuda.kernel_error = torch.AcceleratorError(
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might"
    )
    settings = read_settings(["--model", str(pipeline_folder), "--device", device])
    printed = failed_start(lambda: load_runner(settings), capsys)
    assert printed.startswith("cannot start: ")
    assert ("sees 2 CUDA devices" if device == "cuda:7" else "exclusive mode") in printed
    assert printed.count("\n") == 1


def test_auto_runs_on_the_cpu_with_one_warning_if_the_driver_is_too_old(
    pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeCuda(monkeypatch).init_error = OLD_DRIVER
    with capture_logs() as lines:
        runner = load_runner(read_settings(["--model", str(pipeline_folder), "--device", "auto"]))
    assert runner.device == torch.device("cpu")
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert line["event"].startswith("running on the CPU: cannot use cuda:0 with torch ")
    assert "driver on your system is too old" in line["event"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors"), OutOfMemory),
        (torch.AcceleratorError("CUDA error: an illegal memory access"), DeviceLost),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OutOfMemory),
    ],
    ids=str,
)
def test_a_fault_of_the_device_while_loading_is_one_of_ours(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(load_model, "load_checkpoint", load)
    with pytest.raises(kind):
        load_runner(read_settings(["--device", "cpu"]))


def test_out_of_memory_ends_the_start_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> ModelRunner:
        raise OutOfMemory("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    assert failed_start(load, capsys) == "cannot start: CUDA error: out of memory\n"


def test_out_of_memory_later_is_not_a_failed_start(
    pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = engine_of(lambda: load_small_runner(pipeline_folder))
    wait_until(lambda: engine.ready)
    engine.drain()
    engine.join(PATIENCE_S)
    engine.failure = OutOfMemory("CUDA error: out of memory")
    assert exit_code(engine) == 1
    assert "cannot start" not in capsys.readouterr().err


def test_another_model_than_is_pinned_ends_the_start_with_one_line_that_has_both_digests(
    pipeline_folder: Path, service: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", str(pipeline_folder), "--device", "cpu", "--model-sha256"]
    digest, other = service.engine.model_info.digest, "0" * 64
    printed = failed_start(lambda: load_runner(read_settings([*flags, other])), capsys)
    assert printed.startswith(f"cannot start: {pipeline_folder}: has the digest {digest}, ")
    assert f"DIT_MODEL_SHA256 pins {other}" in printed
    assert printed.count("\n") == 1
    assert load_runner(read_settings([*flags, digest.upper()])).checkpoint.digest == digest


def test_the_log_tells_the_digest_to_pin(service: Running) -> None:
    info = service.engine.model_info
    with capture_logs() as lines:
        log_ready("http://127.0.0.1:8000", info, LIMITS)
    assert [line["digest"] for line in lines if line["event"] == "ready"] == [info.digest]


def test_defaults_that_the_model_cannot_do_are_a_warning(service: Running) -> None:
    with capture_logs() as fitting:
        log_ready("http://127.0.0.1:8000", service.engine.model_info, LIMITS)
    assert [line["log_level"] for line in fitting] == ["info"]
    with capture_logs() as wrong:
        log_ready("", service.engine.model_info, replace(LIMITS, sampler="ns"))
    assert [line["log_level"] for line in wrong] == ["warning", "info"]
    assert "ns is for DiT-XL/2" in wrong[0]["reason"]
