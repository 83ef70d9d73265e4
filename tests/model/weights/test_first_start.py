"""The first start on a host that has no model yet: download, load, build, draw; then a restart.

The hub is a local stand-in without the real one's redirects to its store of large files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.model.weights.published import NAME, WEIGHTS, sd_vae, write_published, xl_dit
from tests.support.checkpoints import STEM, small_dit, small_vae
from tests.support.hub import Hub, Repository, running_hub
from tests.support.processes import free_port

MEMORY_LIMIT = 1.5
"""Peak memory of a start, Python and its libraries included, over the size of the weight files."""

RESUMED_BYTES = 10 << 20
"""The download writes pieces of this size: what arrived of the next one is lost when it breaks."""

START = """
import hashlib, json, sys
from pathlib import Path
from model.sampling.parameters import Sampling
from model.sampling.trajectory import plan_trajectory
from service.load_model import load_runner
from service.logs import configure_logs
from service.settings import read_settings

def peak_bytes():
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ["VmHWM: 0 kB"]
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

configure_logs("json")
flags = ["--model", sys.argv[1], "--device", "cpu", "--dtype", sys.argv[2], "--max-rows", "2"]
runner = load_runner(read_settings(flags))
peak = peak_bytes()
sampling = Sampling(class_label=3, cfg_scale=4.0, num_sampling_steps=2, seed=0, sampler="ddim", guidance_interval=(0, 1))
flight = runner.join(plan_trajectory(runner.checkpoint.schedule, sampling))
while not flight.done:
    runner.tick([flight])
(image,) = runner.decode([flight])
print(json.dumps({
    "peak_bytes": peak,
    "architecture": runner.checkpoint.architecture,
    "licence": runner.checkpoint.licence,
    "class_name": runner.checkpoint.class_names[3][0],
    "side": image.shape[0],
    "digest": runner.checkpoint.digest,
    "image": hashlib.sha256(image.tobytes()).hexdigest(),
}))
"""


@dataclass(frozen=True, slots=True)
class Started:
    """What a start said about its model, and what it logged: our lines and the download's bars."""

    facts: dict[str, object]
    lines: list[str]
    errors: str


def start(endpoint: str, home: Path, *, dtype: str = "float32") -> Started:
    """Load the model in a process of its own, as the service does, and draw an image."""
    done = subprocess.run(
        [sys.executable, "-c", START, NAME, dtype],
        env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    return Started(json.loads(done.stdout), [one["event"] for one in events], done.stderr)


@pytest.fixture(scope="module")
def published_xl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The official model's files with random weights: 3.3 GB."""
    folder = tmp_path_factory.mktemp("published")
    yield write_published(folder, xl_dit(), sd_vae())
    shutil.rmtree(folder)


def nowhere() -> str:
    """A hub that cannot be reached."""
    return f"http://127.0.0.1:{free_port()}"


def check_log(first: Started, weights_mb: int) -> None:
    """Our lines in order, and a warning of each interrupted download."""
    ours = [line for line in first.lines if line.startswith(f"{NAME}: ")]
    ours = [line for line in ours if "downloaded" not in line]  # every 20 s
    assert ours[:2] == [
        f"{NAME}: looking on the hub",
        f"{NAME}: reading {weights_mb} MB of weights from {STEM}.bin",
    ]
    assert ours[2].startswith(f"{NAME}: reading the autoencoder, ")
    assert len(ours) == 3
    assert sum("Trying to resume download" in line for line in first.lines) == len(WEIGHTS)
    assert "Fetching 2 files: 100%" in first.errors


def check_facts(first: Started, architecture: str, side: int) -> None:
    assert first.facts["architecture"] == architecture
    assert first.facts["licence"] == "CC-BY-NC-4.0"
    assert first.facts["class_name"] == "class 3"
    assert first.facts["side"] == side


def check_downloads(hub: Hub, cache: Path, served: Path) -> None:
    """Every file came whole, although each download of weights was interrupted once."""
    assert sorted(set(hub.fetched)) == sorted(
        {str(path.relative_to(served)) for path in served.rglob("*") if path.is_file()}
    )
    (snapshot,) = cache.glob("hub/models--*/snapshots/*")
    for file in WEIGHTS:
        assert (snapshot / file).stat().st_size == (served / file).stat().st_size
    assert not list(cache.rglob("*.incomplete"))


def test_a_first_start_downloads_loads_and_draws_and_a_second_needs_no_hub(tmp_path: Path) -> None:
    served = write_published(tmp_path / "served", small_dit(num_classes=1000), small_vae())
    home = tmp_path / "home"
    with running_hub({NAME: Repository(served, broken=True)}) as hub:
        first = start(hub.endpoint, home)
    check_log(first, round((served / WEIGHTS[0]).stat().st_size / 1e6))
    check_facts(first, "DiT 2x128/2", 8)
    check_downloads(hub, home, served)
    again = start(nowhere(), home)
    assert (again.facts["digest"], again.facts["image"]) == (
        first.facts["digest"],
        first.facts["image"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_start_with_the_official_model_fits_into_half_more_than_its_weights(
    dtype: str, published_xl: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with running_hub({NAME: Repository(published_xl, broken=True)}) as hub:
        first = start(hub.endpoint, home, dtype=dtype)
    check_log(first, round((published_xl / WEIGHTS[0]).stat().st_size / 1e6))
    check_facts(first, "DiT-XL/2", 256)
    check_downloads(hub, home, published_xl)
    for file in WEIGHTS:  # resumed where it broke, give or take what was not written yet
        assert hub.resumed[file] > (published_xl / file).stat().st_size / 2 - RESUMED_BYTES
    again = start(nowhere(), home, dtype=dtype)
    assert again.facts["image"] == first.facts["image"]
    weights = sum((published_xl / file).stat().st_size for file in WEIGHTS)
    for started in (first, again):
        peak = started.facts["peak_bytes"]
        assert isinstance(peak, int)
        print(f"{dtype}: peak {peak / 1e6:.0f} MB, weight files {weights / 1e6:.0f} MB")
        assert peak < MEMORY_LIMIT * weights
