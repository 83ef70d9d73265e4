"""Pickles: harmless values beside the weights are skipped, and nothing in a file is ever run."""

from __future__ import annotations

import argparse
import datetime
import decimal
import enum
import functools
import os
import pathlib
import pickle
import subprocess
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from model.weights.contents.pickles import is_data, read_pickle
from model.weights.errors import CheckpointError

WEIGHT = torch.arange(4.0)


class Precision(enum.Enum):
    HALF = "bf16"


@dataclass
class TrainingConfig:
    """As a training script has one."""

    out: pathlib.Path = pathlib.Path("results")
    steps: list[int] = field(default_factory=lambda: [1, 2])


HARMLESS: dict[str, object] = {
    "namespace": argparse.Namespace(out=pathlib.Path("results"), seed=3),
    "path": pathlib.PurePosixPath("a/b"),
    "windows-path": pathlib.PureWindowsPath("a/b"),
    "numpy-scalar": np.float64(0.5),
    "numpy-integer": np.int64(7),
    "numpy-array": np.arange(3),
    "numpy-state": np.random.default_rng(0).bit_generator.state,
    "random-state": (3, (1, 2), None),
    "ordered": OrderedDict(a=1),
    "default": defaultdict(list, {"loss": [0.1]}),
    "deque": deque([1, 2], maxlen=3),
    "counter": Counter("abc"),
    "datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "timedelta": datetime.timedelta(hours=3),
    "decimal": decimal.Decimal("0.1"),
    "uuid": uuid.UUID(int=3),
    "enum": Precision.HALF,
    "enum-key": {Precision.HALF: 1},
    "dataclass": TrainingConfig(),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "range": range(3),
    "slice": slice(1, 2),
    "complex": 1j,
    "bytes": b"abc",
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "generator-state": torch.Generator().get_state(),
    "class": TrainingConfig,
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_values_do_not_refuse_the_weights(name: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    content = {"args": HARMLESS[name], "ema": {"w": WEIGHT}, "more": [HARMLESS[name], "x"]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_pickle(path)
    assert isinstance(read, dict)
    assert torch.equal(read["ema"]["w"], WEIGHT)
    assert read["more"][1] == "x"


def test_values_are_not_rebuilt_from_a_scripts_own_classes(tmp_path: Path) -> None:
    torch.save({"config": TrainingConfig(), "path": pathlib.PurePosixPath("a")}, tmp_path / "x.pt")
    read = read_pickle(tmp_path / "x.pt")
    assert isinstance(read, dict)
    assert not isinstance(read["config"], TrainingConfig)
    assert not isinstance(read["path"], pathlib.PurePath)
    assert type(read["config"]).__name__ == "TrainingConfig"


def touch(path: str) -> None:
    """A function that a hostile file might call."""
    Path(path).touch()


class Attack:
    """Calls a function when it is loaded."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    "function",
    [
        os.system,
        eval,
        exec,
        subprocess.call,
        subprocess.Popen,
        touch,
        __import__,
        open,
        functools.partial,
    ],
)
def test_code_is_refused_and_not_run(function: Callable[..., object], tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "x.pt"
    command: object = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    if function in (os.system, subprocess.call, subprocess.Popen):
        command = f"touch {mark}" if function is os.system else ["touch", str(mark)]
    elif function is touch:
        command = str(mark)
    torch.save({"ema": {"w": WEIGHT}, "opt": Attack(function, command)}, path)
    with pytest.raises(CheckpointError, match="refused: loading it would run") as caught:
        read_pickle(path)
    assert "save its state dict alone with torch.save" in str(caught.value)
    assert not mark.exists()


def test_a_method_of_a_skipped_object_is_not_called(tmp_path: Path) -> None:
    method = pathlib.Path(tmp_path / "ran").touch
    torch.save({"x": Attack(method)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="refused: it holds more than plain data"):
        read_pickle(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_a_newer_pickle_protocol_is_refused_with_a_way_out(tmp_path: Path) -> None:
    torch.save({"w": WEIGHT}, tmp_path / "x.pt", pickle_protocol=4)
    with pytest.raises(CheckpointError, match="save its state dict alone"):
        read_pickle(tmp_path / "x.pt")


def test_a_file_that_names_no_end_of_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    names = b"".join(b"ca.b\nC%d\n" % i for i in range(200))
    path.write_bytes(b"\x80\x02" + names + b".")
    with pytest.raises(CheckpointError):
        read_pickle(path)
    path.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(CheckpointError):
        read_pickle(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("numpy._core.multiarray.scalar", True),
        ("omegaconf.dictconfig.DictConfig", True),
        ("__main__.Config", True),
        ("train._Private", True),
        ("__main__.main", False),
        ("os.path", False),
        ("subprocess.Popen", False),
        ("builtins.eval", False),
        ("builtins.getattr", True),
        ("torch.hub.load", False),
    ],
)
def test_what_counts_as_data(name: str, data: bool) -> None:
    assert is_data(name) == data
