"""python -m bench [SUITE...]: run the suites, write bench/results and render docs/benchmarks.md.

python -m bench plan: how many devices a load needs.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from bench.measure import measure
from bench.options import REPORT, RESULTS, WORK, Options
from bench.report import machine
from bench.report.figures import write_result
from bench.report.page import write_report
from bench.simulate import planner
from bench.suites.catalogue import SUITES, plan_of


def main(arguments: list[str]) -> int:
    """Run the suites; returns the process's exit code."""
    if arguments[:1] == ["plan"]:
        return planner.main(arguments[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, so that arms are stopped
    given = _parser().parse_args(arguments)
    options = _options(given)
    for name in given.suites or SUITES:
        print(f"== {name}: {plan_of(SUITES[name].planned(options))}", flush=True)
        if not given.dry_run:
            command = ["python", "-m", "bench", *(arguments or [name])]
            measured = measure(name, SUITES[name].planned(options), options, command)
            path = write_result(measured, options.results)
            print(f"   {path}", flush=True)
    if not given.dry_run:
        report = REPORT if options.results == RESULTS else options.results / REPORT.name
        write_report(options.results, report)
        print(f"== {report}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").strip())
    listed = f"{', '.join(SUITES)}; default: all"
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], metavar="SUITE", help=listed)
    parser.add_argument("--quick", action="store_true", help="short run that only checks the suite")
    parser.add_argument("--soak", action="store_true", help="operation: memory over 10000 requests")
    parser.add_argument("--compile", action="store_true", help="add arms under torch.compile")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--model", help="model of all suites: bundled, tiny, xl-256 or xl-512")
    parser.add_argument("--threads", type=int, help="OpenMP threads of every arm")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for weights and logs")
    parser.add_argument("--dry-run", action="store_true", help="print the plan only")
    return parser


def _options(given: argparse.Namespace) -> Options:
    """Quick runs and runs with fixed threads never replace full results, unless --out says so."""
    device, work = given.device, given.work.resolve()
    partial = given.quick or given.threads
    if device == "auto":
        device = "cpu" if machine.gpu_name() is None else "cuda"
    return Options(
        device=device,
        quick=given.quick,
        compiled=given.compile,
        soak=given.soak,
        model=given.model,
        threads=given.threads,
        results=given.out or (work / "results" if partial else RESULTS),
        work=work,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
