"""Started: a service in a process of its own, in one thread, with its log in a file."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load.processes import ServerFailed, free_port, start_module, stop
from tests.support.processes import PROCESS_S, answers
from tests.support.services import wait_until

GAUGES = ("dit_requests_running", "dit_requests_waiting", "dit_row_steps_waiting")
JSON = {"Content-Type": "application/json"}
ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def detail(self) -> str:
        """Of an error."""
        return str(json.loads(self.content)["detail"])


@dataclass(frozen=True, slots=True, eq=False)
class Started:
    """A running service: its process, where it listens, and the file with its log."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def ask(
        self, path: str, body: Mapping[str, object] | None = None, *, host: str | None = None
    ) -> Answer:
        """A whole exchange on a connection of its own.

        Raises:
            OSError, http.client.HTTPException: there was no answer, or only a part of one.
        """
        connection = http.client.HTTPConnection(host or self.host, timeout=ANSWER_S)
        try:
            content = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, content, JSON)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def metric(self, sample: str) -> float:
        """The value of a sample, given as its line begins; 0 if there is none."""
        text = self.ask("/metrics").content.decode()
        found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def ready(self) -> bool:
        return answers(f"{self.url}/readyz")

    @property
    def idle(self) -> bool:
        return all(self.metric(gauge) == 0 for gauge in GAUGES)

    def lines(self) -> list[dict[str, object]]:
        """The log so far, without what is not JSON."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [line for each in text.splitlines() if (line := _object_in(each)) is not None]

    def texts(self) -> list[str]:
        """Each line's event, with its reason and the last line of its exception."""
        return [
            f"{line['event']} {line.get('reason', '')} {_last(line.get('exception'))}".strip()
            for line in self.lines()
        ]

    def errors(self) -> list[str]:
        """The texts of the lines that tell of an error."""
        levels = [line["level"] for line in self.lines()]
        bad = ("error", "critical")
        return [text for text, level in zip(self.texts(), levels) if level in bad]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Signal it and wait: its exit code, and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PROCESS_S), time.monotonic() - began


@contextmanager
def started(
    module: str,
    *arguments: str,
    log: Path,
    port: int | None = None,
    ready: bool = True,
    settings: Mapping[str, str],
) -> Iterator[Started]:
    """Start a module that serves; it is ready when the block begins and killed when it ends.

    Args:
        log: is appended to.
        port: a free one by default.
        ready: whether to wait until it is.
        settings: variables of its environment.

    Raises:
        ServerFailed: it ended before it was ready.
    """
    port = port or free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DIT_")}
    ours = {
        "DIT_PORT": str(port),
        "DIT_LOG_FORMAT": "json",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    with log.open("ab") as file:
        process = start_module(
            module, *arguments, environment={**clean, **ours, **settings}, stderr=file
        )
        service = Started(process, port, log)
        try:
            if ready:
                wait_until(lambda: service.ready or process.poll() is not None, PROCESS_S)
                if process.poll() is not None:
                    raise ServerFailed(log.read_text(encoding="utf-8", errors="replace")[-2000:])
            yield service
        finally:
            stop(process)


def _object_in(line: str) -> dict[str, object] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _last(text: object) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[-1] if lines else ""
