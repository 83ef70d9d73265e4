"""Metrics stay in memory, even if the environment asks prometheus_client for files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import PROCESS_S

ROOT = Path(__file__).parents[2]

START_WITHOUT_TORCH = """
import sys, types

def serve(*_, **__):
    from service.metrics import Metrics
    Metrics().requests.labels("/livez", "ok").inc()
    return 0

sys.modules["service.launch"] = types.SimpleNamespace(serve=serve)
from service.__main__ import main
sys.exit(main(["--port", "0"]))
"""


@pytest.mark.parametrize(
    ("name", "exists"),
    [("PROMETHEUS_MULTIPROC_DIR", False), ("prometheus_multiproc_dir", True)],
)
def test_the_folder_for_several_processes_is_ignored(
    name: str, exists: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "metrics"
    if exists:
        folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", START_WITHOUT_TORCH],
        env=dict(os.environ) | {name: str(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert f"{name} is ignored" in ended.stderr
    assert not list(tmp_path.glob("*/*"))
