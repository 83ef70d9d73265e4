"""The service as a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.load.processes import answers, free_port, start_module

__all__ = ["PROCESS_S", "answers", "free_port", "process"]

PROCESS_S = 180.0
"""How long a test waits for a process, which imports torch first, even on a busy machine."""


@contextmanager
def process(
    *arguments: str, module: str = "service", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`python -m service` with these flags and DIT_* variables; killed at the end of the block."""
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
