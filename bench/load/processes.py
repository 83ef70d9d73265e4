"""Processes: a Python module started as a server on a free port and awaited."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

START_S = 600.0
STOP_S = 20.0
POLL_S = 0.01


class ServerFailed(RuntimeError):
    """A server exited or did not become ready in time; its log says why."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start_module(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
) -> subprocess.Popen[str]:
    """Start `python -m module` as the leader of a new session."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        text=True,
    )


def answers(url: str, status: int = 200) -> bool:
    """Whether a GET of ``url`` returns this status."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=5.0)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    """Poll ``url`` until it answers 200.

    Raises:
        ServerFailed: the process exited, or 600 s passed.
    """
    ends = time.monotonic() + START_S
    while not answers(url):
        if process.poll() is not None or time.monotonic() > ends:
            raise ServerFailed(f"{process.args!r} is not ready, exit code {process.poll()}")
        time.sleep(POLL_S)


def signal_session(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal a process and its descendants."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL after 20 s; a stopped (SIGSTOP) process continues first."""
    signal_session(process, signal.SIGCONT)
    signal_session(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    signal_session(process, signal.SIGKILL)
    process.communicate()  # also closes its pipes
