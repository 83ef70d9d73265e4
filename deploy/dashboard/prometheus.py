"""Prometheus: the real program with the stack's own configuration, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.load.processes import free_port, wait_until_ready

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "prometheus" / "usr" / "bin"
MISSING = "needs Prometheus: `make prometheus`"
QUERY_S = 30.0

Series = Mapping[str, str]


def tool(name: str) -> str | None:
    """The path of Prometheus, promtool or amtool: unpacked by `make prometheus`, or installed."""
    return shutil.which(name, path=f"{UNPACKED}{os.pathsep}{os.environ.get('PATH', '')}")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a query: its labels and the number."""

    labels: Series
    value: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a query over time: its labels, and seconds and values."""

    labels: Series
    times: Sequence[float]
    values: Sequence[float]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str, at: float | None = None) -> list[Sample]:
        """Evaluate an expression at one time, or now."""
        given = {} if at is None else {"time": f"{at:.3f}"}
        result = self._result("query", {"query": expr} | given)
        return [Sample(each["metric"], float(each["value"][1])) for each in result]

    def query_range(self, expr: str, begin: float, end: float, step_s: float) -> list[Line]:
        """Evaluate an expression over time."""
        window = {"start": f"{begin:.3f}", "end": f"{end:.3f}", "step": f"{step_s:g}"}
        result = self._result("query_range", {"query": expr} | window)
        lines = []
        for each in result:
            times, values = zip(*((float(at), float(value)) for at, value in each["values"]))
            lines.append(Line(each["metric"], times, values))
        return lines

    def exemplars(self, expr: str, begin: float, end: float) -> list[Series]:
        """The labels of the exemplars of an expression's series."""
        window = {"start": f"{begin:.3f}", "end": f"{end:.3f}"}
        found = self._get("query_exemplars", {"query": expr} | window)
        return [one["labels"] for each in found for one in each["exemplars"]]

    def alerts(self) -> list[Series]:
        """The labels of the alerts that fire."""
        found = self._get("alerts", {})["alerts"]
        return [one["labels"] for one in found if one["state"] == "firing"]

    def _result(self, path: str, arguments: Mapping[str, str]) -> list[Any]:
        result = self._get(path, arguments)["result"]
        assert isinstance(result, list), "the dashboard's queries are vectors"
        return result

    def _get(self, path: str, arguments: Mapping[str, str]) -> Any:
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=QUERY_S) as answer:
            return json.load(answer)["data"]


def configuration(targets: Mapping[str, str], interval_s: int) -> dict[str, object]:
    """The stack's own configuration, with addresses of this machine for its jobs; other jobs go."""
    config: dict[str, object] = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    jobs = config["scrape_configs"]
    assert isinstance(jobs, list)
    config["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": [targets[job["job_name"]]]}]}
        for job in jobs
        if job["job_name"] in targets
    ]
    config["global"] = {
        "scrape_interval": f"{interval_s}s",
        "evaluation_interval": f"{interval_s}s",
    }
    config.pop("alerting")
    return config


@contextmanager
def running_prometheus(
    folder: Path, targets: Mapping[str, str], interval_s: int = 1
) -> Iterator[Prometheus]:
    """Start it in an empty folder and wait until it is ready; stops it at the end of the block.

    Args:
        targets: host:port to scrape by the name of the stack's job.
    """
    program = tool("prometheus")
    assert program is not None, MISSING
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(targets, interval_s)), encoding="utf-8")
    shutil.copy(ROOT / "deploy/alerts.yml", folder)
    url = f"http://127.0.0.1:{free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *[program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"],
                *[f"--web.listen-address={url.removeprefix('http://')}"],
                "--enable-feature=exemplar-storage",
            ],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    try:
        wait_until_ready(f"{url}/-/ready", process)
        yield Prometheus(url)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(prometheus: Prometheus, expr: str, timeout_s: float) -> None:
    """Wait until an expression has a value.

    Raises:
        TimeoutError: it had none in time.
    """
    ends = time.monotonic() + timeout_s
    while not prometheus.query(expr):
        if time.monotonic() > ends:
            raise TimeoutError(f"no value in {timeout_s:g} s: {expr}")
        time.sleep(0.2)
