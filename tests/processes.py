"""The service as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

PROCESS_S = 180.0
"""How long a test waits for a process, which imports torch first, on a busy machine too."""


@contextmanager
def process(
    *arguments: str, module: str = "service", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`python -m service` with these flags and DIT_* variables."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DIT_")}
    started = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=clean | environment | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(url: str, status: int) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == status
    except httpx.TransportError:
        return False
