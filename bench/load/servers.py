"""Servers: what is measured through HTTP, each in processes of its own.

Peers are frozen (SIGSTOP) while another arm has its turn. Ours are not: their watchdog would see a
hung engine, and an idle service wakes up only once per second.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.load.processes import free_port, signal_session, start_module, stop, wait_until_ready

PORT = "{port}"
"""Becomes the port in a server's arguments and environment."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """A module to run with -m. Output goes to ``log`` or, without one, where ours goes."""

    module: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/readyz"
    log: Path | None = None
    peer: bool = False


class Server:
    """A started server."""

    def __init__(self, spec: ServerSpec, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self._spec = spec
        self._process = process

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Ready during the block; afterwards a peer is frozen."""
        if self._spec.peer:
            signal_session(self._process, signal.SIGCONT)
        try:
            wait_until_ready(f"{self.url}{self._spec.ready_path}", self._process)
            yield
        finally:
            if self._spec.peer:
                signal_session(self._process, signal.SIGSTOP)

    def memory_mib(self, what: str) -> float | None:
        """Of the process itself: VmHWM (the peak so far) or VmRSS; None outside Linux."""
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return None
        values = dict(line.partition(":")[::2] for line in text.splitlines())
        return float(values[what].split()[0]) / 1024 if what in values else None


@contextmanager
def running_server(spec: ServerSpec) -> Iterator[Server]:
    """Start a server and wait until it is ready; stops it at the end of the block."""
    port = str(free_port())
    process = _start(spec, port)
    server = Server(spec, f"http://127.0.0.1:{port}", process)
    try:
        with server.awake():
            pass
        yield server
    finally:
        stop(process)


@contextmanager
def running_servers(specs: Mapping[str, ServerSpec]) -> Iterator[dict[str, Server]]:
    """Start several servers, one after the other."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(running_server(spec)) for name, spec in specs.items()}


def _start(spec: ServerSpec, port: str) -> subprocess.Popen[str]:
    arguments = [each.replace(PORT, port) for each in spec.arguments]
    environment = {name: each.replace(PORT, port) for name, each in spec.environment.items()}
    if spec.log is None:
        return start_module(spec.module, *arguments, environment=environment)
    with spec.log.open("wb") as log:
        return start_module(
            spec.module, *arguments, environment=environment, stdout=log, stderr=log
        )
