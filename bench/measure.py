"""Measure: one suite's run, with the facts without which its figures mean nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.options import Options
from bench.report import machine
from bench.report.figures import Facts, SuiteResult
from bench.suites.catalogue import Suite, plan_of


def measure(name: str, suite: Suite, options: Options, command: Sequence[str]) -> SuiteResult:
    """Run a suite under this name; ``command`` is what the user typed."""
    load_before, commit, began = machine.load_average(), machine.commit(), time.monotonic()
    measured = suite.run(options)
    threads = "each arm's own choice" if options.threads is None else f"{options.threads}, all arms"
    if machine.has_priority():
        threads += ", before all other processes (chrt)"
    facts = Facts(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=shlex.join(command),
        commit=commit,
        machine=machine.cpu_name(),
        cores=machine.cores(),
        gpu=machine.gpu_name() if options.on_gpu else None,
        threads=threads,
        versions=machine.versions(options.site),
        load_before=load_before,
        load_after=machine.load_average(),
        minutes=(time.monotonic() - began) / 60,
    )
    return SuiteResult(
        name, options.device, plan_of(suite), facts, measured, model=options.model or ""
    )
