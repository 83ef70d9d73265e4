"""The commands of docs/scaling.md, as processes: `serve run` with the file that we ship, and the stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.load.processes import free_port
from tests.fleet.serving.fleets import ROOT, Fleet, Load, ray_environment
from tests.fleet.test_config import SERVE_YAML
from tests.support.services import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

READY_S = 300.0
END_S = 120.0
SERVE = Path(sys.executable).with_name("serve")


def test_the_shipped_file_is_served_and_stopped_by_the_commands(tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("needs Ray Serve")
    port = free_port()
    file = tmp_path / "serve.yaml"
    text = SERVE_YAML.read_text(encoding="utf-8")
    file.write_text(text.replace("port: 8000", f"port: {port}"), encoding="utf-8")
    with TemporaryDirectory(prefix="ray-") as folder:
        environment = _environment(folder)
        with _served(file, environment, tmp_path / "serve.log") as process:
            fleet = Fleet(port)
            wait_until(lambda: _is_ready(fleet, process), READY_S)
            assert fleet.ask("/generate", {"class_label": 3}).content.startswith(b"\x89PNG")
            wait_until(lambda: sum(fleet.metrics("dit_ready").values()) == 2, READY_S)
            stopped = _stop_under_load(fleet, environment)
            assert (stopped.returncode, stopped.stdout) == (0, "stopped\n"), stopped.stderr
            process.send_signal(signal.SIGINT)
            assert process.wait(END_S) == 0


def _stop_under_load(
    fleet: Fleet, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """The stop command, while a long request is under way that must get its picture."""
    load = Load(fleet)
    asked = threading.Event()

    def body_of(_: int) -> Mapping[str, object]:
        asked.set()
        return {"class_label": 1, "num_sampling_steps": 250, "sampler": "ddim"}

    with load.running(1, body_of):
        assert asked.wait(END_S)
        wait_until(lambda: sum(fleet.metrics("dit_requests_running").values()) >= 1, END_S)
        command = [sys.executable, "-m", "service.fleet.deployments.stop"]
        stopped = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=END_S,
        )
    assert load.answers[0].status == 200
    return stopped


def _environment(folder: str) -> dict[str, str]:
    """A Ray of its own: the others on this machine have other folders and tokens."""
    kept = {name: each for name, each in os.environ.items() if not re.match("DIT_|RAY_", name)}
    return kept | ray_environment() | {"RAY_TMPDIR": folder}


@contextmanager
def _served(
    file: Path, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(SERVE), "run", "--address", "local", str(file)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(END_S)


def _is_ready(fleet: Fleet, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "serve run has ended"
    try:
        return fleet.ask("/readyz").status == 200
    except OSError:
        return False
