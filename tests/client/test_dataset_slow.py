"""Data sets next to a service that is really killed, and of 50,000 pictures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dit_client import Options
from dit_client.dataset.run import Status
from tests.client.test_dataset import contents, lines_of, make, wish
from tests.support.processes import PROCESS_S, answers, free_port, process
from tests.support.services import wait_until

pytestmark = pytest.mark.slow

PACK = """
import io, re, sys
from pathlib import Path
from PIL import Image as Pictures
from dit_client import Generation, Image, Parameters, Timings
from dit_client.dataset.packing import pack_npz
from dit_client.dataset.plan import Plan
from dit_client.dataset.record import Record
from dit_client.dataset.store import Store
from dit_client.results import ClassEntry

def peak_mib():
    # Not getrusage: its maximum is inherited from the process that started this one.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def picture(colour):
    buffer = io.BytesIO()
    Pictures.new("RGB", (side, side), colour).save(buffer, "png", compress_level=1)
    return buffer.getvalue()

folder, per_class, side = Path(sys.argv[1]), int(sys.argv[2]), 64
classes = tuple(ClassEntry(i, f"class {i}") for i in range(10))
plan = Plan(classes, per_class, 0)
entries = tuple((entry.id, entry.name) for entry in classes)
record = Record(0, per_class, entries, {}, "npz", None, "made up", "0")
store = Store(folder, plan, record)
members = {"cfg_scale": 1.0}
timings = Timings(0, 0, 0, 0)
pictures = [picture((number, 0, number % 10)) for number in range(250)]
for task in plan:
    image = Image(0, task.seed, "image/png", pictures[task.number % 250])
    parameters = Parameters(0, "", 1.0, 1, "ddim", 0, (0, 1), None, members)
    store.add(task, Generation((image,), parameters, timings, "made up", None, None))
store.close()
written = peak_mib()
pack_npz(Store(folder, plan, record), side, lambda _: None)
print(f"{written:.0f} {peak_mib():.0f}")
"""


def test_a_killed_service_costs_no_picture_and_doubles_none(
    pipeline_folder: Path, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    wanted = wish(tmp_path / "set", per_class=20, options=Options(num_sampling_steps=10))
    flags = ("--model", str(pipeline_folder), "--port", str(port), "--reproducible")
    seen: list[int] = []
    outage = threading.Event()
    results: list[Status] = []

    def watch(status: Status) -> None:
        seen.append(status.done)
        if status.outages:
            outage.set()

    def work() -> None:
        results.append(make(url, wanted, on_change=watch, patience_s=2 * PROCESS_S))

    worker = threading.Thread(target=work)
    with process(*flags, DIT_LOG_FORMAT="json") as first:
        wait_until(lambda: answers(f"{url}/readyz"), PROCESS_S)
        worker.start()
        wait_until(lambda: bool(seen) and seen[-1] >= 20, PROCESS_S)
        first.send_signal(signal.SIGKILL)
        assert outage.wait(PROCESS_S)
        assert seen[-1] < 100
    with process(*flags, DIT_LOG_FORMAT="json"):
        wait_until(lambda: answers(f"{url}/readyz"), PROCESS_S)
        worker.join(PROCESS_S)
        assert not worker.is_alive()
        (status,) = results
        assert status.outages >= 1
        assert (status.done, status.made, status.failed) == (100, 100, [])
        assert len({line["file"] for line in lines_of(tmp_path / "set")}) == 100
        assert len(lines_of(tmp_path / "set")) == 100
        make(url, wish(tmp_path / "whole", per_class=20, options=wanted.options))
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_killed_command_goes_on(pipeline_folder: Path, tmp_path: Path) -> None:
    """SIGKILL of `dit dataset` itself, over and over, until one run finishes."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "dit_client", "dataset", "--url", url, "--json"]
    command += ["--out", str(tmp_path), "--per-class", "60", "--steps", "20", "--webdataset"]
    command += ["--shard-size", "50"]
    kills = 0
    with process("--model", str(pipeline_folder), "--port", str(port), DIT_LOG_FORMAT="json"):
        wait_until(lambda: answers(f"{url}/readyz"), PROCESS_S)
        while True:
            least = count(tmp_path) + 60
            running = subprocess.Popen(command, stdout=subprocess.PIPE)
            wait_until(partial(has_grown, running, tmp_path, least), PROCESS_S)
            if kills == 4 or running.poll() is not None:
                break
            running.kill()
            running.communicate()
            kills += 1
        output, _ = running.communicate(timeout=PROCESS_S)
    assert kills >= 2
    assert running.returncode == 0
    assert json.loads(output)["done"] == 300
    lines = lines_of(tmp_path)
    assert len({line["member"] for line in lines}) == len(lines) == 300
    assert len(list(tmp_path.glob("shard-*.tar"))) == 6


def count(folder: Path) -> int:
    manifest = folder / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


def test_50_000_pictures_are_packed_in_bounded_memory(tmp_path: Path) -> None:
    peaks = {}
    for per_class in (100, 5000):
        folder = tmp_path / str(per_class)
        folder.mkdir()
        arguments = [sys.executable, "-c", PACK, str(folder), str(per_class)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        written, packed = (int(each) for each in done.stdout.split())
        peaks[per_class] = packed
        print(f"{per_class * 10} pictures: peak RSS {written} MiB written, {packed} MiB packed")
    file = tmp_path / "5000" / "samples.npz"
    assert file.stat().st_size > 50_000 * 64 * 64 * 3  # 586 MiB
    assert peaks[5000] - peaks[100] < 40
    with zipfile.ZipFile(file) as archive, archive.open("arr_0.npy") as array:
        assert np.lib.format.read_magic(array) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(array)
        assert shape == (50_000, 64, 64, 3)
        assert not fortran
        assert dtype == np.dtype(np.uint8)
        rows = np.frombuffer(array.read(64 * 64 * 3 * 2), np.uint8).reshape(2, 64, 64, 3)
        assert rows[1, 0, 0].tolist() == [1, 0, 1]
    with np.load(file) as arrays:
        assert arrays["arr_1"].tolist() == list(range(10)) * 5000


def has_grown(running: subprocess.Popen[bytes], folder: Path, least: int) -> bool:
    return running.poll() is not None or count(folder) >= least
