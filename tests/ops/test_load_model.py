"""Loading: what holds in the thread that loads the model and then runs it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from model.device import flush_denormals
from service import load_model
from service.load_model import limit_threads, load_runner, report_download
from service.metrics import Metrics
from service.settings import read_settings
from tests.support.checkpoints import write_pipeline

DENORMAL = 1e-39


def test_denormal_numbers_are_zero_in_the_thread_that_loads_and_in_its_workers(
    tmp_path: Path,
) -> None:
    numbers = torch.full((1_000_000,), DENORMAL)  # long enough for every worker to take a part
    settings = read_settings(["--model", str(write_pipeline(tmp_path)), "--device", "cpu"])
    with ThreadPoolExecutor(1) as thread:
        if not thread.submit(flush_denormals).result():
            pytest.skip("this CPU has no such mode")
    with ThreadPoolExecutor(1) as thread:
        thread.submit(load_runner, settings).result()
        product = thread.submit(lambda: numbers * 1.0).result()
    assert not product.any()


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch with four threads, none of them asked for by the environment."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("quota", "threads"), [(None, 4), (64.0, 4), (4.0, 4), (3.9, 3), (1.0, 1), (0.5, 1)]
)
def test_there_are_no_more_threads_than_processors_in_the_quota(
    quota: float | None, threads: int
) -> None:
    lines: list[str] = []
    limit_threads(quota, lines.append)
    assert torch.get_num_threads() == threads
    assert len(lines) == (threads < 4)


@pytest.mark.usefixtures("four_threads")
def test_the_environment_s_number_of_threads_takes_precedence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    limit_threads(1.0, print)
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_the_model_is_loaded_with_as_many_threads_as_the_quota_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_model, "cpu_quota", lambda: 1.0)
    settings = read_settings(["--model", str(write_pipeline(tmp_path)), "--device", "cpu"])
    with ThreadPoolExecutor(1) as thread:
        thread.submit(torch.set_num_threads, 2).result()
        thread.submit(load_runner, settings).result()
        assert thread.submit(torch.get_num_threads).result() == 1


def test_the_metrics_say_how_much_of_a_model_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    metrics = Metrics()
    report_download(read_settings(["--model", "owner/name"]), metrics)

    def arrived() -> float | None:
        return metrics.registry.get_sample_value("dit_hub_cache_bytes")

    assert arrived() == 0
    blobs = tmp_path / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "whole").write_bytes(bytes(10))
    (blobs / "part.incomplete").write_bytes(bytes(5))
    assert arrived() == 15


def test_a_local_model_has_nothing_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    blobs = tmp_path / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "whole").write_bytes(bytes(10))
    metrics = Metrics()
    report_download(read_settings(["--model", "owner/name"]), metrics)
    assert metrics.registry.get_sample_value("dit_hub_cache_bytes") == 0
