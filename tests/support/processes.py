"""The service in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.load.processes import answers, free_port, start_module

__all__ = ["PROCESS_S", "answers", "catches", "free_port", "process"]

PROCESS_S = 180.0
"""How long a test waits for a process: it imports torch first, perhaps on a busy machine."""


def catches(running: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process handles this signal. Without /proc: whether it is still up after 1 s."""
    status = Path(f"/proc/{running.pid}/status")
    if not status.exists():
        with suppress(subprocess.TimeoutExpired):
            running.wait(1.0)
        return running.returncode is None
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


@contextmanager
def process(
    *arguments: str, module: str = "service", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`python -m service` with these flags and variables; killed at the end of the block."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DIT_")}
    started = start_module(
        module,
        *arguments,
        environment=clean | environment | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()
