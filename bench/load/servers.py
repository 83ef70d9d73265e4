"""Servers: what is measured through HTTP, each in processes of its own.

Peers are frozen while it is another's turn. Ours are not: their watch would take it for a hung
engine, and idle they wake up once a second for nothing.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.environment import bare_environment, peer_environment
from bench.options import ROOT, Options

START_S = 600.0
STOP_S = 20.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """``module`` is run with -m; ``{port}`` in the arguments and values becomes the port."""

    name: str
    module: str
    arguments: tuple[str, ...]
    ready_path: str
    peer: bool
    environment: dict[str, str] = field(default_factory=dict)


class ServerFailed(RuntimeError):
    """A server ended or did not become ready; its log's last lines say why."""


class Server:
    """A server that has been started and is ready."""

    def __init__(self, spec: ServerSpec, port: int, process: subprocess.Popen[bytes]) -> None:
        self.name = spec.name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._spec = spec
        self._process = process

    @contextmanager
    def awake(self) -> Iterator[Server]:
        """Let it run for the length of the block; a peer is frozen again afterwards."""
        if self._spec.peer:
            self._signal(signal.SIGCONT)
        try:
            wait_until_ready(self._spec, self.port, self._process)
            yield self
        finally:
            if self._spec.peer:
                self._signal(signal.SIGSTOP)

    def memory_mib(self, what: str = "VmHWM") -> float | None:
        """Of the process itself: VmHWM, its most so far, or VmRSS; None where /proc is not Linux's."""
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return None
        lines = dict(line.partition(":")[::2] for line in text.splitlines())
        return float(lines[what].split()[0]) / 1024 if what in lines else None

    def stop(self) -> None:
        """End its processes, as gently as they let us."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        """To all of its processes: it leads a session of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@contextmanager
def running_server(spec: ServerSpec, options: Options) -> Iterator[Server]:
    """Start a server and wait until it is ready; it ends with the block."""
    server = start(spec, options)
    try:
        with server.awake():
            pass
        yield server
    finally:
        server.stop()


def start(spec: ServerSpec, options: Options) -> Server:
    """Start a server's process, and no more."""
    port = _free_port()
    log = options.work / "logs" / f"{spec.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = peer_environment(options) if spec.peer else bare_environment(options)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", spec.module, *_filled(spec.arguments, port)],
            cwd=ROOT,
            env=environment | _filled_values(spec.environment, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Server(spec, port, process)


def wait_until_ready(spec: ServerSpec, port: int, process: subprocess.Popen[bytes]) -> None:
    """Ask until it says 200.

    Raises:
        ServerFailed: it ended meanwhile, or took too long.
    """
    ends = time.monotonic() + START_S
    while not _answers(port, spec.ready_path):
        if process.poll() is not None or time.monotonic() > ends:
            raise ServerFailed(
                f"{spec.name} is not ready (exit code {process.poll()}), see its log"
            )
        time.sleep(POLL_S)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _filled(arguments: tuple[str, ...], port: int) -> list[str]:
    return [argument.replace("{port}", str(port)) for argument in arguments]


def _filled_values(values: Mapping[str, str], port: int) -> dict[str, str]:
    return {name: value.replace("{port}", str(port)) for name, value in values.items()}
