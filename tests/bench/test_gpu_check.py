"""The check of a GPU host: what of it runs without one."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch._C._autograd import DeviceType

from bench.arms.launches import count_kernels, kernels_of
from bench.arms.protocol import ArmSpec, Ready
from bench.arms.worker import build
from bench.arms.workers import WorkerDied
from bench.check import __main__ as check
from bench.check import ticks
from bench.check.attention import relative_error, why_not
from bench.check.gpu_tests import GpuTests, read_report
from bench.check.loaded import Loaded
from bench.check.one_image import one_image
from bench.check.ticks import ESTIMATES_MS, Ticks
from bench.options import BUNDLED, ROOT, XL_256, Options
from bench.report.figures import Measured, Spread, Table, read_results
from bench.report.page import render

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.model.test_a" name="test_good" time="1.5"/>
<testcase classname="tests.model.test_a" name="test_bad" time="0.5">
  <failure message="assert 1 == 2&#10;more">trace</failure></testcase>
<testcase classname="tests.model.test_a" name="test_off" time="0.0">
  <skipped message="needs a | pipe"/></testcase>
</testsuite></testsuites>"""

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@dataclass(frozen=True, slots=True)
class Failing:
    """A step that finds something wrong."""

    def run(self, options: Options) -> Measured:
        return Measured({"failed": Spread((1.0,))}, (Table("tests", ("test",), ()),))


class Broken:
    """A step that cannot run."""

    def run(self, options: Options) -> Measured:
        raise RuntimeError("the driver is gone")


def check_cpu(tmp_path: Path, *steps: str) -> int:
    flags = ["--device", "cpu", "--out", str(tmp_path / "results"), "--work", str(tmp_path)]
    return check.main([*steps, *flags])


@without_gpu
def test_without_a_gpu_it_stops_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.main(["--out", str(tmp_path / "results")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"gpu-check: no GPU: torch {torch.__version__}, built ")
    assert not (tmp_path / "results").exists()


def test_a_step_writes_its_result_and_prints_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_cpu(tmp_path, "device", "sdpa") == 0
    results = read_results(tmp_path / "results")
    assert [one.suite for one in results] == ["check-device", "check-sdpa"]
    printed = capsys.readouterr().out
    assert f"| torch | {torch.__version__} |" in printed
    assert re.search(r"\| MATH \| [\d.]+ \| 0\.\d+ \| ok \|", printed)
    assert "(2, 16, 256, 72)" in printed
    assert "(2, 4, 64, 64)" in printed  # the bundled model


def test_results_of_the_check_leave_the_report_alone(tmp_path: Path) -> None:
    assert check_cpu(tmp_path, "device") == 0
    assert render(read_results(tmp_path / "results")) == render([])


def test_a_step_that_breaks_is_named_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"broken": lambda options: Broken(), "device": check.STEPS["device"]}
    monkeypatch.setattr(check, "STEPS", steps)
    assert check_cpu(tmp_path) == 1
    assert [one.suite for one in read_results(tmp_path / "results")] == ["check-device"]
    printed = capsys.readouterr().err
    assert "RuntimeError: the driver is gone" in printed
    assert printed.endswith("gpu-check: failed: broken\n")


def test_gpu_tests_are_read_with_their_reasons(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(JUNIT)
    assert read_report(path) == (
        ("test_a::test_good", "passed", 1.5, ""),
        ("test_a::test_bad", "failure", 0.5, "assert 1 == 2"),
        ("test_a::test_off", "skipped", 0.0, "needs a / pipe"),
    )


def test_a_failed_gpu_test_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "STEPS", {"tests": lambda options: Failing()})
    assert check_cpu(tmp_path) == 1
    assert [one.suite for one in read_results(tmp_path / "results")] == ["check-tests"]


def test_every_file_with_gpu_tests_is_run() -> None:
    files = GpuTests.planned(Options()).files
    assert "tests/model/runner/test_runner.py" in files
    assert "tests/bench/test_gpu_check.py" not in files
    assert all((ROOT / file).is_file() for file in files)


def test_ticks_are_compared_with_every_estimate() -> None:
    assert Ticks.planned(Options(device="cuda")).rows == tuple(ESTIMATES_MS)


class NotedWorker:
    """A worker whose ticks and kernels are known; without ``kernels`` the profiler ends it."""

    def __init__(self, seconds: float, kernels: float | None) -> None:
        self.ready = Ready(3.0, "bfloat16", 1)
        self._seconds = seconds
        self._kernels = kernels

    def step(self, rows: int) -> float:
        return rows * self._seconds

    def kernels(self, rows: int) -> float:
        if self._kernels is None:
            raise WorkerDied("a fault of the profiler")
        return rows + self._kernels


def test_the_fused_tick_is_compared_with_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, ArmSpec] = {}

    @contextmanager
    def started(specs: dict[str, ArmSpec], _: Options) -> Iterator[dict[str, NotedWorker]]:
        asked.update(specs)
        yield {"fused": NotedWorker(1e-3, 200.0), "plain": NotedWorker(3e-3, None)}

    monkeypatch.setattr(ticks, "running_workers", started)
    measured = Ticks(BUNDLED, rows=(2, 8), rounds=1).run(Options(device="cuda"))
    assert {name: spec.triton for name, spec in asked.items()} == {"fused": True, "plain": False}
    (table,) = measured.tables
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["kernels"] for row in rows] == [202.0, 208.0]
    assert [row["plain's kernels"] for row in rows] == [None, None]
    ratios = [row["plain / fused"] for row in rows]
    assert [each.median for each in ratios if isinstance(each, Spread)] == pytest.approx([3.0, 3.0])
    assert measured.figures["8.ms"].median == pytest.approx(8.0)
    assert measured.figures["8.plain_ms"].median == pytest.approx(24.0)


def test_an_arm_can_run_as_where_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    build(ArmSpec("matmul", "", "cpu", "bfloat16", triton=False))
    with pytest.raises(ModuleNotFoundError):
        import_module("triton")


@dataclass(slots=True)
class Activity:
    name: str
    device_type: DeviceType


def test_kernels_are_counted_without_copies_and_what_the_host_does() -> None:
    gpu, host = DeviceType.CUDA, DeviceType.CPU
    activities = [
        Activity("Memcpy HtoD (Pinned -> Device)", gpu),
        Activity("_gather", gpu),
        Activity("sm90_xmma_gemm_bf16", gpu),
        Activity("Memset (Device)", gpu),
        Activity("cudaGraphLaunch", host),
    ]
    assert count_kernels(activities) == 2
    assert kernels_of(lambda: None, torch.device("cpu")) is None


def test_one_image_and_the_load_are_of_the_official_model() -> None:
    options = Options(device="cuda")
    assert one_image(options).models == (XL_256,)
    assert Loaded.planned(options).model == XL_256


def test_a_kernel_that_gives_nan_is_infinitely_wrong() -> None:
    right = torch.ones(4)
    assert relative_error(right, right) == 0.0
    assert relative_error(torch.tensor([1.0, 1.0, 1.5, 1.0]), right) == 0.5
    assert relative_error(right * math.nan, right) == math.inf


def test_the_reason_against_a_kernel_is_torchs_own() -> None:
    texts = [
        "Memory efficient kernel not used because: (Triggered internally at a.h:1.)",
        "Memory Efficient attention has been runtime disabled. (Triggered internally at a.h:2.)",
        "Flash attention only supports gpu architectures in the range [sm80, sm121]. (Triggered ...",
    ]
    reason = "Flash attention only supports gpu architectures in the range [sm80, sm121]."
    assert why_not(texts, "No available kernel.\nAborting.") == reason
    assert why_not(texts[:2], "No available kernel.\nAborting.") == "No available kernel."


@pytest.mark.slow
def test_every_step_runs_on_a_cpu(tmp_path: Path) -> None:
    assert check_cpu(tmp_path) == 0
    suites = {one.suite for one in read_results(tmp_path / "results")}
    assert suites == {f"check-{name}" for name in check.STEPS}
