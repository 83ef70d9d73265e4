"""Loading: what holds in the thread that loads the model and then runs it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from model.device import flush_denormals
from service.load_model import load_runner
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
