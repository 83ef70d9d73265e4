"""python -m bench [SUITE...]: measure, write bench/results, render docs/benchmarks.md."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from bench.options import REPORT, RESULTS, WORK, Options
from bench.report.figures import Facts, SuiteResult, write_result
from bench.report.page import write_report
from bench.suites.catalogue import SUITES, default_suites
from bench.suites.suite import plan_of


def main(arguments: list[str]) -> int:
    """Run the suites; returns the process's exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whatever was started ends too
    given = _parser().parse_args(arguments)
    options = _options(given)
    for name in given.suites or default_suites():
        suite = SUITES[name](options)
        print(f"== {name}: {plan_of(suite)}", flush=True)
        if not given.dry_run:
            path = write_result(measure(name, options, arguments), options.results)
            print(f"   {path}", flush=True)
    if not given.dry_run:
        report = REPORT if options.results == RESULTS else options.results / REPORT.name
        write_report(options.results, report)
        print(f"== {report}")
    return 0


def measure(name: str, options: Options, arguments: list[str]) -> SuiteResult:
    """Run one suite and put the facts around what it found."""
    suite = SUITES[name](options)
    load_before, commit, began = machine.load_average(), machine.commit(), time.monotonic()
    measured = suite.run(options)
    threads = "each arm's own choice" if options.threads is None else f"{options.threads}, all arms"
    facts = Facts(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=shlex.join(["python", "-m", "bench", *(arguments or [name])]),
        commit=commit,
        machine=machine.cpu_name(),
        cores=machine.cores(),
        gpu=machine.gpu_name() if options.on_gpu else None,
        threads=threads,
        versions=machine.versions(options),
        load_before=load_before,
        load_after=machine.load_average(),
        minutes=(time.monotonic() - began) / 60,
    )
    return SuiteResult(
        name, options.device, plan_of(suite), facts, measured, model=options.model or ""
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").strip())
    choices = f"{', '.join(SUITES)}; all but memory by default"
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], metavar="SUITE", help=choices)
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it runs")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument(
        "--model", help="in place of the suites' own: bundled, tiny, xl-256, xl-512"
    )
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of random weights and logs")
    parser.add_argument("--threads", type=int, help="OpenMP threads of every arm")
    parser.add_argument("--compile", action="store_true", help="also arms under torch.compile")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and end")
    return parser


def _options(given: argparse.Namespace) -> Options:
    """What is no full measurement does not take a full one's place, unless it is told to."""
    device, work = given.device, given.work.resolve()
    partial = given.quick or given.threads
    results = given.out or (work / "results" if partial else RESULTS)
    if device == "auto":
        device = "cpu" if machine.gpu_name() is None else "cuda"
    return Options(
        device=device,
        quick=given.quick,
        compiled=given.compile,
        model=given.model,
        threads=given.threads,
        results=results,
        work=work,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
