"""Reading a mapped file does not leave it in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from model.weights.contents.mapped_memory import release_pages
from model.weights.weight_files import WeightFiles, load_state
from tests.support.checkpoints import write_tensors

MEBIBYTE = 1 << 20
WIDTH = 1024
"""Of the layers: 4 MiB of weights each."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def resident_bytes(path: Path) -> int:
    """How much of a file's mapping is in this process's memory now."""
    text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    _, found, after = text.partition(f" {path}\n")
    rss = next((line for line in after.splitlines() if line.startswith("Rss:")), "Rss: 0 kB")
    return int(rss.split()[1]) * 1024 if found else 0


def layers(count: int) -> nn.Sequential:
    return nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(count)])


@linux
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_released_pages_leave_the_memory_and_can_be_read_again(suffix: str, tmp_path: Path) -> None:
    path = write_tensors(tmp_path / f"weights.{suffix}", layers(4).state_dict())
    weights = WeightFiles.from_file(path)
    state = weights.tensors()
    total = sum(tensor.double().sum() for tensor in state.values())
    assert resident_bytes(path) >= 16 * MEBIBYTE
    weights.release()
    assert resident_bytes(path) == 0
    assert sum(tensor.double().sum() for tensor in state.values()) == total


@linux
def test_other_memory_is_left_alone(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.bin", "other.bin")]
    states = [
        WeightFiles.from_file(write_tensors(path, {"x": torch.ones(MEBIBYTE)})).tensors()
        for path in paths
    ]
    copies = [state["x"].clone() for state in states]
    release_pages([paths[0]])
    assert [resident_bytes(path) > 0 for path in paths] == [False, True]
    assert all(bool((copy == 1).all()) for copy in copies)


@linux
def test_loading_leaves_little_of_the_file_in_memory(tmp_path: Path) -> None:
    original = layers(40)  # 160 MiB
    path = write_tensors(tmp_path / "weights.bin", original.state_dict())
    weights = WeightFiles.from_file(path)
    state = weights.tensors()
    with torch.device("meta"):
        module = layers(40)
    load_state(module, state, weights, device=torch.device("cpu"), dtype=torch.float32)
    assert resident_bytes(path) < 40 * MEBIBYTE
    loaded = module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in original.state_dict().items())


def test_where_nothing_is_mapped_nothing_happens(tmp_path: Path) -> None:
    release_pages([tmp_path / "missing.bin"])
