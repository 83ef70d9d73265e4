"""Served: the service in a process of its own, with its log in a file, and what it takes of the machine."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.drills.services.started import GAUGES, started
from tests.support.processes import answers, free_port
from tests.support.services import PATIENCE_S, wait_until

MIB = 2**20

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""The samples of a scrape, by name and labels."""


@dataclass(frozen=True, slots=True)
class Served:
    """A service that listens, and its process."""

    url: str
    port: int
    process: subprocess.Popen[str]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    @property
    def memory(self) -> int:
        """Bytes of memory that belongs to the process alone: no files, whose pages come and go."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        (kibibytes,) = re.findall(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)
        return int(kibibytes) * 1024

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    @property
    def threads(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/task").iterdir())

    def scrape(self) -> Samples:
        text = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=PATIENCE_S).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """A sample's present value, 0 where there is none yet."""
        return self.scrape().get((name, frozenset(labels.items())), 0.0)

    @property
    def idle(self) -> bool:
        """Whether no work is left, by the metrics."""
        samples = self.scrape()
        return not any(samples[name, frozenset()] for name in GAUGES)

    def connect(self, data: bytes = b"") -> socket.socket:
        """A new connection on which ``data`` has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.sendall(data)
        return connection

    def check_unharmed(self) -> None:
        """It is up and ready, has no work left, and its log has no traceback."""
        assert self.process.poll() is None, self.log[-2000:]
        assert answers(f"{self.url}/readyz")
        wait_until(lambda: self.idle)
        faults = [line for line in self.log.splitlines() if '"level": "error"' in line]
        assert faults == []
        assert "Traceback" not in self.log


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    wanted = labels.items()
    return sum(value for (each, own), value in samples.items() if each == name and wanted <= own)


@contextmanager
def served(
    folder: Path, model: Path | str, *, module: str = "service", **settings: str
) -> Iterator[Served]:
    """Serve ``model`` until the block ends.

    Args:
        folder: where to put the log.
        module: what to run in place of the service itself.
        settings: DIT_ variables without their prefix, in lower case; other variables as they are.
    """
    port = free_port()
    log_file = folder / f"service-{port}.log"
    given = {"DIT_MODEL": str(model)} | {
        f"DIT_{name.upper()}" if name.islower() else name: value for name, value in settings.items()
    }
    with started(module, log=log_file, port=port, settings=given) as running:
        yield Served(running.url, port, running.process, log_file)
