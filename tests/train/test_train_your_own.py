"""docs/train-your-own.md as it is written: a folder of class folders becomes a service. Takes minutes."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.processes import PROCESS_S, answers, free_port, process
from tests.support.services import PATIENCE_S, wait_until
from tests.train.pictures import paint

ROOT = Path(__file__).parents[2]
LEVELS = {"Fig": 40, "Lime": 120, "Plum": 200}
"""The grey level of each class's disc."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name, level in LEVELS.items():
        for frame in range(40):
            paint(folder / name / f"{frame}.png", level + frame % 20 - 10)
    return folder


def train(launcher: list[str], data: Path, out: Path, *options: str) -> str:
    """The output of a training. One thread: several wait for each other on a busy machine."""
    common = ["--data", str(data), "--out", str(out), "--image-size=32", "--cpu", "--threads=1"]
    command = [sys.executable, "-m", *launcher, *common, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def picture(client: httpx.Client, name: str, seed: int) -> np.ndarray:
    """The grey levels (32, 32) of one image."""
    answer = client.post("/generate", json={"class_label": name, "seed": seed})
    assert answer.status_code == 200, answer.text
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"), float)
    assert pixels.shape == (32, 32)
    return pixels


@contextmanager
def served(folder: Path) -> Iterator[httpx.Client]:
    """`DIT_MODEL=folder make run`, without make."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(DIT_MODEL=str(folder), DIT_PORT=str(port)):
        wait_until(lambda: answers(f"{url}/readyz", 200), PROCESS_S)
        with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            yield client


@pytest.mark.slow
def test_a_folder_of_photographs_becomes_a_service(data: Path, tmp_path: Path) -> None:
    options = [
        "--autoencoder-steps=300",
        "--wide-steps=50",
        "--textured-steps=50",
        "--transformer-steps=800",
        "--batch-size=32",
    ]
    folder = tmp_path / "model"
    assert f"DIT_MODEL={folder} make run" in train(["model.train"], data, folder, *options)
    assert "resumed at step 800 of 800" in train(["model.train"], data, folder, *options)

    with served(folder) as client:
        listed = client.get("/classes").json()
        assert [each["name"] for each in listed] == sorted(LEVELS)
        drawn = {
            name: np.stack([picture(client, name, seed) for seed in range(6)]) for name in LEVELS
        }
    means = [drawn[name][:, 12:20, 12:20].mean() for name in LEVELS]
    assert means == sorted(means), "the classes' greys are not in order"
    for name, mean in zip(LEVELS, means):
        assert abs(mean - LEVELS[name]) < 40, f"{name} does not have its grey"
        assert drawn[name][:, :3].mean() > 200, f"{name} is not on white"


@pytest.mark.slow
def test_two_processes_train_together(data: Path, tmp_path: Path) -> None:
    launcher = ["accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
    launcher += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m"]
    options = [
        "--autoencoder-steps=3",
        "--wide-steps=3",
        "--textured-steps=3",
        "--transformer-steps=3",
        "--batch-size=8",
    ]
    train([*launcher, "model.train"], data, tmp_path / "model", *options)
    state = torch.load(tmp_path / "model.run" / "transformer.state.pt", weights_only=True)
    assert state["step"] == 3
    assert (tmp_path / "model" / "model_index.json").exists()
